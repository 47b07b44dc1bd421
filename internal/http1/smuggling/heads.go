package smuggling

import (
	"fmt"
	"strings"
)

// requestLines adds requests with odd request lines (RFC 9112 section 3).
func (t *table) requestLines() {
	get := t.get("")
	line := func(name, before, after string) { t.bad(name, strings.Replace(get, before, after, 1)) }
	line("a tab behind the method", "GET ", "GET\t")
	line("two spaces behind the method", "GET ", "GET  ")
	line("two spaces before the version", " HTTP", "  HTTP")
	line("a tab before the version", " HTTP", "\tHTTP")
	line("a vertical tab before the version", " HTTP", "\vHTTP")
	line("a space behind the version", "HTTP/1.1", "HTTP/1.1 ")
	line("a tab behind the version", "HTTP/1.1", "HTTP/1.1\t")
	line("a word behind the version", "HTTP/1.1", "HTTP/1.1 HTTP/1.1")
	line("a CR behind the version", "HTTP/1.1", "HTTP/1.1\r")
	line("a NUL behind the version", "HTTP/1.1", "HTTP/1.1\x00")
	line("an LF behind the version", "HTTP/1.1\r\n", "HTTP/1.1\n")
	line("a CR alone behind the version", "HTTP/1.1\r\n", "HTTP/1.1\r")
	line("a space in the target", t.target, t.target+" a")
	line("a NUL in the target", t.target, t.target+"\x00")
	line("a CR in the target", t.target, t.target+"\r")
	line("an LF in the target", t.target, t.target+"\n")
	line("a tab in the target", t.target, t.target+"\t")
	line("a DEL in the target", t.target, t.target+"\x7f")
	line("no target", t.target, "")
	for _, method := range []string{"", " ", "\x00GET", "GET\x00", "G@T", "GE(T", "GET:", "G\"ET", "\xffGET", "GET,", "GET\r", "/GET", "[GET]"} {
		line(fmt.Sprintf("the method %q", method), "GET", method)
	}
	t.bad("LF alone", strings.ReplaceAll(get, "\r\n", "\n"))
	t.bad("an empty line of LF", "\n"+get)
	t.bad("an empty line of CR", "\r"+get)
	t.bad("a space before the request", " "+get)
	t.bad("a NUL before the request", "\x00"+get)
	t.bad("a byte order mark before the request", "\xef\xbb\xbf"+get)
	t.bad("empty lines without end", strings.Repeat("\r\n", 20)+get)
	t.bad("a TLS record", "\x16\x03\x01\x00\x05hello")
	t.bad("the rest of a chunked body", last+get)
	t.good("an empty line before the request", "\r\n"+get, t.got())
}

// versions adds requests of other versions (RFC 9112 section 2.3).
func (t *table) versions() {
	get := t.get("")
	for _, version := range []string{
		"HTTP/1.2", "HTTP/1.9", "HTTP/1.10", "HTTP/1.01", "HTTP/01.1", "HTTP/1.", "HTTP/1", "HTTP/.1", "HTTP/11", "HTTP/0.9", "HTTP/2.0", "HTTP/2", "HTTP/3.0", "HTTP/9.9",
		"http/1.1", "Http/1.1", "HTTPS/1.1", "HTTP/1,1", "HTTP-1.1", "HTTP 1.1", "HTTP/1.-1", "HTTP/+1.1", "HTTP/1.1a", "XTTP/1.1", "ICY/1.1", "HTTP/", "HTTP", "RTSP/1.0", "HTTP/\xb9.1", "HTTP/1.1;a",
	} {
		t.bad("the version "+fmt.Sprintf("%q", version), strings.Replace(get, "HTTP/1.1", version, 1))
	}
	t.bad("HTTP/0.9: no version", "GET "+t.target+"\r\n")
	t.bad("HTTP/0.9: no version, but a space", "GET "+t.target+" \r\n")
	t.bad("HTTP/0.9 with fields", "GET "+t.target+"\r\nHost: "+t.host+"\r\n"+t.fields+"\r\n")
	t.bad("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	for _, connection := range []string{"", "Connection: close\r\n", "Connection: keep-alive\r\n"} {
		t.good(fmt.Sprintf("HTTP/1.0 with %q", connection), t.head("GET", "HTTP/1.0", connection), t.got())
		t.requests[len(t.requests)-1].Closes = true
	}
	t.good("HTTP/1.0 with a body", t.head("POST", "HTTP/1.0", "Content-Length: 5\r\n")+"hello", t.read("hello"))
	t.requests[len(t.requests)-1].Closes = true
}

// targets adds requests whose targets have other forms than an absolute path (RFC 9112 section 3.2). The
// framing of these requests is valid. The gate serves the absolute-form only for its own hosts.
func (t *table) targets() {
	form := func(status int, name, method, target string) {
		bytes := strings.Replace(t.head(method, "HTTP/1.1", ""), t.target, target, 1)
		t.answered(status, name, bytes, Message{method, target, ""})
	}
	form(200, "absolute-form", "GET", "https://"+t.host+t.target)
	form(400, "absolute-form with another scheme", "GET", "gopher://"+t.host+t.target)
	form(400, "absolute-form with user information", "GET", "https://smuggled@"+t.host+t.target)
	form(421, "absolute-form for another host", "GET", "https://smuggled.example.test"+t.target)
	form(400, "authority-form", "GET", t.host+":443")
	form(400, "authority-form with CONNECT", "CONNECT", t.host+":443")
	form(400, "asterisk-form", "OPTIONS", "*")
	form(400, "asterisk-form with GET", "GET", "*")
	form(400, "a target without a slash", "GET", t.target[1:])
}

// fieldLines adds requests with odd field lines (RFC 9112 section 5, RFC 9110 section 5).
func (t *table) fieldLines() {
	field := func(name, line string) { t.bad(name, t.get(line)) }
	field("a folded line", "X-Note: a\r\n b\r\n")
	field("a folded line, by a tab", "X-Note: a\r\n\tb\r\n")
	field("a folded line of spaces", "X-Note: a\r\n  \r\n")
	field("LF in the header", "X-Note: a\nX-More: b\r\n")
	field("LF LF in the header", "X-Note: a\n\nGET "+t.target+"-smuggled HTTP/1.1\r\nHost: "+t.host+"\r\n")
	field("LF CR LF in the header", "X-Note: a\n\r\n")
	field("CR in the header", "X-Note: a\rX-More: b\r\n")
	field("CR CR LF behind a field", "X-Note: a\r\r\n")
	field("CR LF CR in the header", "X-Note: a\r\n\rX-More: b\r\n")
	field("LF at the end of the header", "X-Note: a\r\n\n")
	field("no colon", "X-Note\r\n")
	field("an equals sign", "X-Note=a\r\n")
	field("no name", ": b\r\n")
	field("two colons without a name", ":: b\r\n")
	for _, name := range []string{"X Note", "X-Note ", "X-Note\t", "X-Note\x00", "X-\x01", "X-\x7f", "X-\xff", "X-N\u00f6te", "X@Note", "X,Note", "X;Note", "X(Note)", "X\"Note\"", "X/Note", "[X]", "{X}", "X=Note", "X\\Note", "X\vNote", "X\rNote", "X-Note\r", "<X>"} {
		field(fmt.Sprintf("the field name %q", name), name+": a\r\n")
	}
	for _, value := range []string{"a\x00b", "\x00", "a\x00", "a\x01b", "a\bb", "a\vb", "a\fb", "a\x1bb", "a\x7fb", "a\rb", "\r"} {
		field(fmt.Sprintf("the field value %q", value), "X-Note: "+value+"\r\n")
	}
	t.bad("a folded line at first", strings.Replace(t.get(""), "\r\nHost", "\r\n Host", 1))
	t.bad("a tab at first", strings.Replace(t.get(""), "\r\nHost", "\r\n\tHost", 1))
	t.bad("CR CR LF at the end of the header", strings.TrimSuffix(t.get(""), "\r\n")+"\r\r\n")
	for _, line := range []string{"X-Note:", "X-Note:a", "X-Note: \t a \t ", "X-Note: a\tb", "X-Note: \xff\x80", "X-Note: a:b", "x-nOTE: a", "!#$%&'*+-.^_`|~9: a", "X-Note: \"a", "X-Note: a\r\nX-Note: b\r\nx-note: c"} {
		t.good(fmt.Sprintf("the field %q", line), t.get(line+"\r\n"), t.got())
	}
}

// hosts adds requests with odd Host fields (RFC 9112 section 3.2).
func (t *table) hosts() {
	get := t.get("")
	swap := func(name, with string) {
		t.bad(name, strings.Replace(get, "Host: "+t.host+"\r\n", with, 1))
	}
	swap("no host", "")
	t.bad("two hosts", t.get("Host: "+t.host+"\r\n"))
	t.bad("two hosts, the second another", t.get("host: smuggled.example.test\r\n"))
	t.bad("two hosts, the second empty", t.get("Host:\r\n"))
	swap("a host before a space", "Host : "+t.host+"\r\n")
	swap("a host behind a space", " Host: "+t.host+"\r\n")
	swap("a folded host", "Host:\r\n "+t.host+"\r\n")
	for _, host := range []string{"a " + t.host, t.host + " a", "a@" + t.host, t.host + "/a", t.host + "?a", t.host + "#a", "\"" + t.host + "\"", t.host + "\x00", "\v" + t.host, t.host + "\\a", "<" + t.host + ">", t.host + "\xff", "https://" + t.host, t.host + "\rX: a"} {
		swap(fmt.Sprintf("the host %q", host), "Host: "+host+"\r\n")
	}
}

// connections adds requests whose Connection field names fields of the framing. Connection must not make a
// server or proxy ignore them (RFC 9110 section 7.6.1).
func (t *table) connections() {
	hello := t.read("hello")
	for _, value := range []string{"Content-Length", "content-length", "Content-Length, keep-alive", "keep-alive,Content-Length", "Host", "Transfer-Encoding", "X-Note, Content-Length"} {
		t.good(fmt.Sprintf("Connection: %s with a length", value), t.counted("Connection: "+value+"\r\n", "hello"), hello)
	}
	for _, value := range []string{"Transfer-Encoding", "Content-Length", "TE, Transfer-Encoding"} {
		t.good(fmt.Sprintf("Connection: %s with chunks", value), t.post("Connection: "+value+"\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n"+last), hello)
	}
	t.answered(403, "an upgrade to h2c", t.get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"), t.got())
}

// expectations adds requests with an Expect field (RFC 9110 section 10.1.1). The field does not change the
// framing.
func (t *table) expectations() {
	hello := t.read("hello")
	for _, value := range []string{"100-continue", "100-Continue"} {
		t.good("Expect: "+value, t.counted("Expect: "+value+"\r\n", "hello"), hello)
		t.good("Expect: "+value+" with chunks", t.post("Expect: "+value+"\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n"+last), hello)
	}
	t.good("Expect: 100-continue without a body", t.get("Expect: 100-continue\r\n"), t.got())
	smuggled := t.smuggled()
	for _, value := range []string{"y 100-continue", "100-continue, y", "200-ok", "100", "100-continue;a", "\"100-continue\""} {
		t.answered(417, "Expect: "+value, t.counted("Expect: "+value+"\r\n", smuggled), t.read(smuggled))
	}
	t.bad("Expect, folded", t.counted("Expect:\r\n 100-continue\r\n", "hello"))
	t.bad("Expect before a space", t.counted("Expect : 100-continue\r\n", "hello"))
	t.bad("Expect with both lengths", t.post("Expect: 100-continue\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", last))
}
