"""Certificates for tests: an authority, and what it has signed."""

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
_DAY = dt.timedelta(days=1)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _extension(value: x509.ExtensionType) -> "x509.Extension[x509.ExtensionType]":
    return x509.Extension(value.oid, critical=False, value=value)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


class Pair:
    """A certificate and its key, as files.

    Attributes:
        certificate, key: paths of PEM files.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.certificate = directory / f"{name}.pem"
        self.key = directory / f"{name}-key.pem"


class Authority:
    """Signs certificates.

    Args:
        directory: where the files go.
        name: of the authority, and of its file.

    Attributes:
        path: its certificate.
    """

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self.directory = directory
        self.path = directory / f"{name}.pem"
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        made = self._builder(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        # what Python 3.13 demands of an authority
        made = made.add_extension(_usage(signs=True), critical=True)
        self.path.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, expired: bool = False
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key,
            serial_number=x509.random_serial_number(),
            not_valid_before=now - 2 * _DAY,
            not_valid_after=now - _DAY if expired else now + _DAY,
            extensions=[
                _extension(x509.SubjectKeyIdentifier.from_public_key(key)),
                _extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())),
            ],
        )

    def sign(self, name: str, use: x509.ObjectIdentifier | None = CLIENT, *, expired: bool = False) -> Pair:
        """Make a certificate; one for servers is valid for this machine's loopback.

        Args:
            name: of its subject and its files, which are replaced.
            use: its extended key usage; None has none.
            expired: it was valid until yesterday.
        """
        pair = Pair(self.directory, name)
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._builder(_name(name), key.public_key(), expired=expired).add_extension(
            x509.BasicConstraints(ca=False, path_length=None), critical=True
        )
        if use is not None:
            made = made.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        if use == SERVER:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        signed = made.sign(self._key, hashes.SHA256())
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        pair.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        return pair
