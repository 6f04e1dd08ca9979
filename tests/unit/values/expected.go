// Prints expected.json: what Go and go-units make of the values that wherry.values reads and writes.
//
//	go mod init expected && go get github.com/docker/go-units@v0.5.0 && go run expected.go > expected.json
//
// Text that need not be UTF-8 is in hexadecimal digits of its bytes.
package main

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"time"

	"github.com/docker/go-units"
)

type row []any

func failed(value any, err error) any {
	if err != nil {
		return err.Error()
	}
	return value
}

func main() {
	out := map[string][]row{}
	add := func(table string, cells ...any) { out[table] = append(out[table], cells) }

	for _, text := range []string{
		"", "0", "-0", "+0", "1", "1s", "-1s", "+5s", "1h2m3.5s", "1h30m", "100us", "100µs", "100μs", "5ns", "1.5ns", "0.1ms",
		".5s", "5.s", ".s", "-.s", ".", "-", "+", "s", "1..5s", "1.2.3h", "1 s", " 1s", "1s ", "5x", "3d", "1é", "é", "\"", "\\", "x\ny",
		"9223372036854775807ns", "-9223372036854775808ns", "9223372036854775808ns", "2562047h47m16.854775807s",
		"9223372036854775.808us", "2562048h", "99999999999999999999s", "0000000000000000000000001s", "9999999999999999999h",
		"0.9223372036854775807h", "0.9223372036854775808h", "0.100000000000000000000h", "0.3333333333333333333h", "1.000000000000000000001s",
		"0.0000000001s", "1e3s", "0x10s", "1m-1s", "--1s", "1S", "١s", "1h 2m", "1.1h", "2.3m", "7.7ms", "1_000s",
	} {
		value, err := time.ParseDuration(text)
		add("ParseDuration", text, failed(int64(value), err))
	}
	for _, value := range []int64{
		0, 1, 999, 1000, 1500, 999999, 1000000, 250000000, 999999999, 1000000000, 1234567891, 60000000000, 90500000000,
		3600000000001, 3661000000000, 9223372036854775807, -1, -1500000, -3600000000000, -9223372036854775808,
	} {
		add("Duration.String", value, time.Duration(value).String())
	}
	for _, seconds := range []float64{
		-5, 0, 0.5, 1, 1.9, 2, 59, 60, 61, 119, 120, 150, 3599, 3600, 5399, 5400, 7200, 86400, 172799, 172800, 259200, 1209599,
		1209600, 1296000, 5183999, 5184000, 6048000, 63071999, 63072000, 94608000, 1e9,
	} {
		add("HumanDuration", seconds, units.HumanDuration(time.Duration(seconds*1e9)))
	}
	for _, text := range []string{
		"1970-01-01T00:00:00Z", "2020-01-02T03:04:05.678Z", "2020-01-02T03:04:05.123456789Z", "2020-01-02T03:04:05.1234567899Z",
		"2020-01-02T05:04:05+02:00", "2020-01-02T05:04:05.5+02:00", "2020-01-01T21:34:05.25-05:30", "2020-01-02T03:04:05-00:00",
		"2020-01-02T03:04:05+24:00", "2020-01-02T03:04:05+25:00", "2020-01-02T03:04:05+00:61", "2020-02-29T00:00:00Z", "2019-02-29T00:00:00Z",
		"1900-02-29T00:00:00Z", "2000-02-29T23:59:59Z", "1969-12-31T23:59:59.999999999Z", "1700-03-01T00:00:00Z", "2262-04-11T23:47:16.854775807Z",
		"2020-13-02T03:04:05Z", "2020-00-02T03:04:05Z", "2020-01-32T03:04:05Z", "2020-01-00T03:04:05Z", "2020-04-31T03:04:05Z",
		"2020-01-02T24:00:00Z", "2020-01-02T23:60:00Z", "2020-01-02T23:59:61Z", "2020-01-02", "2020-01-02T03:04:05", "2020-01-02T03:04Z",
		"2020-01-02T03:04:05.Z", "2020-01-02T03:04:05Z ", " 2020-01-02T03:04:05Z", "2020-01-02T03:04:05+0200", "2020-01-02T03:04:05+02",
		"20-01-02T03:04:05Z", "2020-1-2T3:4:5Z", "+020-01-02T03:04:05Z", "2020-01-02T03:04:05.1٠Z", "2020-01-02T03:04:05ZZ", "", "x",
	} {
		value, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			add("time.Parse", text, nil)
		} else {
			add("time.Parse", text, value.UnixNano())
		}
	}
	for _, value := range []int64{0, 1, 1500000000, 1795508311870000000, 1767323045678901234, -1, -86400000000000, 951782400000000000, 4102444800000000000} {
		moment := time.Unix(0, value).UTC()
		there := moment.In(time.FixedZone("IST", 19800))
		add("Time", value, moment.Format(time.RFC3339), moment.Format(time.RFC3339Nano), moment.String(), there.Format(time.RFC3339), there.String())
	}
	for _, text := range []string{
		"", "0", "4096", "64m", "64M", "64mb", "64MB", "64MiB", "64mib", "1.5g", "1.5 g", "1.5GiB", "1g ", " 1g", "1 g", "1  g", "1k", "1kB", "1t", "1p", "1e",
		"1b", "1B", "1bb", "1bi", "1ki", "1kib", "1kibi", "1kbb", "1kx", "1x", "1xyz", "1XYZ", "x", "m", "-1", "-1m", "+1m", "--1", ".5k", "5.k", "1.2.3k", "1,5k", "1_000",
		".", ".k", " ", "1e3", "1E3k", "1e-1k", "1e400", "1e+", "1.1g", "0.1g", "32.3", "18446744073709551616", "nan", "inf", "1 2k", "10 kB", "1é", "١k", "\"1", "1\nk",
	} {
		decimal, err := units.FromHumanSize(text)
		if decimal == -9223372036854775808 {
			continue // depends on the processor
		}
		binary, wrong := units.RAMInBytes(text)
		add("ParseSize", text, failed(decimal, err), failed(binary, wrong))
	}
	for _, size := range []float64{
		-1, 0, 1, 42, 999, 999.6, 1000, 1023, 1024, 1536, 9999, 10000, 99950, 999949, 999999, 1000000, 1048575, 1048576, 4261234, 23540000000, 25276800000, 1e15, 1.5e18, 1e21, 1e24,
	} {
		add("PrintSize", size, units.HumanSize(size), units.HumanSizeWithPrecision(size, 3), units.BytesSize(size))
	}
	for _, text := range []string{
		"", "plain", "a b", "tab\t", "\a\b\f\n\r\v", "\"\\'`", "\x00\x1f\x7f", "é", "日本", "\u00a0", "\u00ad", "\u0085", "\u200b", "\u2028", "\ufeff", "\ufffd", "\U0001f600", "\U000e0001",
		"\xff", "a\xc3", "\xc3\xa9\xa9", "\xed\xa0\x80", "\ue000",
	} {
		add("Quote", hex.EncodeToString([]byte(text)), hex.EncodeToString([]byte(strconv.Quote(text))))
	}
	for _, text := range []string{
		"", "\"", "\"\"", "''", "``", "\"abc\"", "`a\\n\r`", "`a`b`", "\"a\\n\\t\\\\\\\"\"", "\"\\'\"", "'\\''", "'\"'", "'\\\"'", "'ab'", "'é'", "\"\\x41\\101\\u00e9\\U0001f600\"", "\"\\xc3\\xa9\"",
		"\"\\xff\"", "\"\\377\"", "\"\\400\"", "\"\\x4\"", "\"\\xgg\"", "\"\\u12\"", "\"\\ud800\"", "\"\\U00110000\"", "\"\\q\"", "\"\\\"", "\"a\nb\"", "`a\nb`", "abc", "\"a'", "\"a\"b\"", "\"\\8\"", "\"\\18\"", "'\\n'",
	} {
		value, err := strconv.Unquote(text)
		if err != nil {
			add("Unquote", text, nil)
		} else {
			add("Unquote", text, hex.EncodeToString([]byte(value)))
		}
	}
	for _, text := range []string{"1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False", "", "tRUE", "yes", "on", "1 ", "é", "a\"b"} {
		value, err := strconv.ParseBool(text)
		add("ParseBool", text, failed(value, err))
	}
	for _, text := range []string{
		"0", "-0", "+7", "7", "007", "08", "0x1f", "0X1F", "-0x10", "0b101", "0o17", "0b2", "0x", "0_7", "1_000", "0x_1f", "0x1_f", "0x1__f", "0x1_", "_1", "__", "", "-", "+", "--1", "1.5", "1e3", " 1", "1 ", "٣",
		"9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "18446744073709551615", "18446744073709551616", "99999999999999999999999999", "abc", "0xg", "0b", "00", "0__7", "0_", "a_b",
	} {
		signed, err := strconv.ParseInt(text, 0, 64)
		unsigned, wrong := strconv.ParseUint(text, 0, 16)
		add("ParseInt", text, failed(signed, err), failed(unsigned, wrong))
	}
	os.Stdout.WriteString("{\n")
	first := true
	for _, name := range []string{
		"ParseDuration", "Duration.String", "HumanDuration", "time.Parse", "Time", "ParseSize", "PrintSize", "Quote", "Unquote", "ParseBool", "ParseInt",
	} {
		if !first {
			os.Stdout.WriteString(",\n")
		}
		first = false
		os.Stdout.WriteString(strconv.Quote(name) + ": [\n")
		for number, cells := range out[name] {
			line, err := json.Marshal(cells)
			if err != nil {
				panic(err)
			}
			if number > 0 {
				os.Stdout.WriteString(",\n")
			}
			os.Stdout.Write(line)
		}
		os.Stdout.WriteString("\n]")
	}
	os.Stdout.WriteString("\n}\n")
}
