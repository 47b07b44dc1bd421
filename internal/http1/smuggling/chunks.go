package smuggling

import (
	"fmt"
	"strings"
)

// chunkSizes adds bodies with chunk sizes (RFC 9112 section 7.1: 1*HEXDIG).
func (t *table) chunkSizes() {
	for _, size := range []string{
		"", " ", "+5", "-5", "0x5", "0X5", "x5", "5x", "5h", "5 ", "5\t", " 5", "\t5", "5,", "5.", "5_", "_5", "5\v", "5\f", "5\x00", "\x005", "5\xa0", "5\r", "5 5", "5\"",
		"\"5\"", "00000000000000005", "10000000000000005", "ffffffffffffffff0", strings.Repeat("0", 100) + "5", "0x", "-0", "\uff15",
	} {
		t.badBody(fmt.Sprintf("a chunk of size %q", size), size+"\r\nhello\r\n"+last)
	}
	for _, end := range []string{"-0", "+0", "0x0", " 0", "0 ", "00000000000000000", "\x000", "0\x00"} {
		t.badBody(fmt.Sprintf("a last chunk of size %q", end), "5\r\nhello\r\n"+end+"\r\n\r\n")
	}
	t.badBody("no chunk", "\r\n")
	t.badBody("no size before a chunk", "hello\r\n"+last)
	for _, size := range []string{"5", "05", "0000000000000005"} {
		t.good("a chunk of size "+size, t.chunked(size+"\r\nhello\r\n"+last), t.read("hello"))
	}
	ten := strings.Repeat("x", 10)
	t.good("an upper-case digit", t.chunked("A\r\n"+ten+"\r\n"+last), t.read(ten))
	t.good("a lower-case digit", t.chunked("a\r\n"+ten+"\r\n"+last), t.read(ten))
	t.good("a last chunk of 000", t.chunked("5\r\nhello\r\n000\r\n\r\n"), t.read("hello"))
	t.good("no chunk but the last", t.chunked(last), t.read(""))
	t.good("two chunks", t.chunked("2\r\nhe\r\n3\r\nllo\r\n"+last), t.read("hello"))
}

// chunkEnds adds bodies whose chunks and chunk lines end otherwise than in CR LF.
func (t *table) chunkEnds() {
	smuggled := t.smuggled()
	t.badBody("LF behind a size", "5\nhello\r\n"+last)
	t.badBody("CR behind a size", "5\rhello\r\n"+last)
	t.badBody("CR CR LF behind a size", "5\r\r\nhello\r\n"+last)
	t.badBody("LF CR behind a size", "5\n\rhello\r\n"+last)
	t.badBody("ONE.TWO: LF behind a chunk", "5\r\nhello\n"+last)
	t.badBody("ONE.TWO: CR behind a chunk", "5\r\nhello\r"+last)
	t.badBody("TWO.ONE: a request in place of the LF", fmt.Sprintf("5\r\nhello\r%x\r\n%s\r\n%s", len(smuggled), smuggled, last))
	t.badBody("ZERO.TWO: no end behind a chunk", "5\r\nhello"+last)
	t.badBody("SPILL: a chunk longer than its size", "5\r\nhelloworld\r\n"+last)
	t.badBody("SPILL: two bytes in place of CR LF", "5\r\nhelloXX"+last)
	t.badBody("SPILL: a size in place of CR LF", "5\r\nhello0\r\n\r\n")
	t.badBody("SPILL.TERM", "5\r\nhello\r\n1\r\nA0\r\n\r\n")
	t.badBody("LF CR behind a chunk", "5\r\nhello\n\r"+last)
	t.badBody("an empty line behind a chunk", "5\r\nhello\r\n\r\n"+last)
	t.badBody("a space behind a chunk", "5\r\nhello \r\n"+last)
	t.badBody("LF behind the last chunk's size", "5\r\nhello\r\n0\n\r\n")
	t.badBody("LF LF at the end", "5\r\nhello\r\n0\n\n")
	t.badBody("LF behind the last chunk", "5\r\nhello\r\n0\r\n\n")
	t.badBody("CR and no LF behind the last chunk", "5\r\nhello\r\n0\r\n\rX")
	t.badBody("CR CR LF behind the last chunk", "5\r\nhello\r\n0\r\n\r\r\n")
	t.badBody("LF in all lines", "5\nhello\n0\n\n")
}

// extensions adds bodies with chunk extensions (RFC 9112 section 7.1.1).
func (t *table) extensions() {
	smuggled := t.smuggled()
	t.badBody("TERM.EXT: LF in an extension", fmt.Sprintf("5;\nhello\r\n%x\r\n%s\r\n%s", len(smuggled), smuggled, last))
	t.badBody("TERM.EXT: LF in a named extension", "2;a\nxx\r\n"+fmt.Sprintf("%x\r\n", len(smuggled))+last+smuggled)
	t.badBody("EXT.TERM: CR in an extension", "2;a\rxx\r\n"+last+smuggled)
	t.badBody("EXT.TERM: CR CR LF behind an extension", "5;a\r\r\nhello\r\n"+last)
	t.badBody("EXT.TERM: LF in a value", "5;a=b\nc\r\nhello\r\n"+last)
	t.badBody("EXT.TERM: CR in a quoted value", "5;a=\"\r\"\r\nhello\r\n"+last)
	t.badBody("EXT.TERM: CR LF in a quoted value", "5;a=\"\r\n\"\r\nhello\r\n"+last)
	t.badBody("an escaped LF in a quoted value", "5;a=\"\\\n\"\r\nhello\r\n"+last)
	t.badBody("LF in the extension of the last chunk", "5\r\nhello\r\n0;a\n\r\n")
	for _, extension := range []string{
		";", "; ", ";;a", ";a;", ";=", ";=b", ";a=", ";a= ;b", ";a b", ";a=b c", ";a=\"b", ";a=\"b\"c", ";a=\"\x00\"", ";a=\x00", ";a=\x7f", ";\x00a", ";a=\x1b",
		";a=b,c", ";a=b=c", ";a=(b)", ";\"a\"", ";a\xff", ";a=\"b\\\x00\"", ";a\v", ";a ", ";a=b\t", ";a=\"b\" ", " a", " ;", "\t;", " ; ", ",a", "#a", " a=b", "=a", " ;a", "\t;a", " ; a = b",
	} {
		t.badBody(fmt.Sprintf("a chunk extension %q", extension), "5"+extension+"\r\nhello\r\n"+last)
	}
	for _, extension := range []string{";a", ";a=b", ";a=\"b\"", ";a=\"\"", ";a=\";0 \\\"\t\"", ";a;b=c;d=\"e\"", "; a = b", ";\ta\t=\t\"b\"", ";a=\"\xff\"", ";a=\"" + strings.Repeat("x", 200) + "\""} {
		t.good(fmt.Sprintf("a chunk extension %q", extension), t.chunked("5"+extension+"\r\nhello\r\n"+last), t.read("hello"))
		t.good(fmt.Sprintf("an extension of the last chunk %q", extension), t.chunked("5\r\nhello\r\n0"+extension+"\r\n\r\n"), t.read("hello"))
	}
}

// trailers adds bodies with a trailer (RFC 9112 section 7.1.2). RFC 9110 section 6.5.1 forbids fields
// that frame or route a message there.
func (t *table) trailers() {
	for _, trailer := range []string{
		"X-Sum: \x00\r\n", "X-Sum: \x7f\r\n", "X-Sum: a\n", "X-Sum: a\r", "X-Sum: a\rb\r\n", "X-Sum: a\r\n b\r\n", " X-Sum: a\r\n", "\tX-Sum: a\r\n", "X-Sum : a\r\n", "X-Sum\r\n", ": a\r\n", "X Sum: a\r\n", "X-S\xfcm: a\r\n",
		"Content-Length: 9\r\n", "content-length: 0\r\n", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: identity\r\n", "Host: " + t.host + "\r\n", "X-Sum: a\r\nContent-Length: 9\r\n",
	} {
		t.badBody(fmt.Sprintf("a trailer %q", trailer), "5\r\nhello\r\n0\r\n"+trailer+"\r\n")
	}
	for _, trailer := range []string{"X-Sum: a\r\n", "X-Sum:\r\nX-Sum: b\r\n", "Authorization: Bearer smuggled\r\n", "Tallygate-Partner: smuggled\r\n", "Connection: close\r\n", "X-Sum: \xff\r\n"} {
		t.good(fmt.Sprintf("a trailer %q", trailer), t.chunked("5\r\nhello\r\n0\r\n"+trailer+"\r\n"), t.read("hello"))
	}
}
