"""Container networking: networks as people make them, and which container is on which. Begin with `networks`.

`table` holds the networks; `attachments` allots what a start asks for (`sandboxes`: what one sandbox holds);
`rewiring` changes it while a container runs; `names` joins netd, which answers for names and relays `::1`. How a
bridge, a link, a rule or an address is made is `network/`'s.
"""
