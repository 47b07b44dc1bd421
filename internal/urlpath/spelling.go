package urlpath

import (
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tallygate/tallygate/internal/ascii"
)

// Spellings is a set of spellings that [DecodeSegment] refuses, because servers decode them
// differently. An API may allow them nevertheless.
type Spellings uint8

// The spellings.
const (
	EncodedSlash      Spellings = 1 << iota // %2F: some servers split the segment there
	Semicolon                               // ";" or %3B: some servers end the segment there (matrix parameters)
	EncodedUnreserved                       // an escaped letter, digit or one of -._~ (RFC 3986 section 2.3)
	NotUTF8                                 // escapes that are not UTF-8, such as ISO 8859-1
	OuterSpace                              // a space at the start or the end of the segment
)

// Decoded is a segment of a path, decoded once.
type Decoded struct {
	Text       string
	Parameters int       // index in Text of the first ";" that is not escaped, or len(Text)
	Used       Spellings // the spellings in the segment that DecodeSegment refuses
}

// DecodeSpelled decodes raw as [DecodeSegment] does, and also accepts the spellings in allowed. Even
// with all spellings allowed, it refuses a broken escape, an escape of an escape, a backslash, a
// control character, an overlong form of UTF-8, and a segment that some server reads as a dot segment
// or as an empty segment.
func DecodeSpelled(raw string, allowed Spellings) (Decoded, error) {
	text, err := DecodeSegment(raw)
	if err == nil || allowed == 0 {
		return Decoded{Text: text, Parameters: len(text)}, err
	}
	d, fault := decodeAny(raw)
	switch {
	case fault != nil:
		return Decoded{}, fault
	case d.Used&^allowed != 0:
		return Decoded{}, err
	}
	return d, nil
}

// decodeAny decodes raw and finds the spellings in it.
func decodeAny(raw string) (d Decoded, err error) {
	var b strings.Builder
	d.Parameters = -1
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case segmentBytes[c]:
			b.WriteByte(c)
			continue
		case c == ';':
			if d.Parameters < 0 {
				d.Parameters = b.Len()
			}
		case c != '%':
			return Decoded{}, errSegmentByte
		default:
			var ok bool
			if c, ok = ascii.Escaped(raw[i:]); !ok {
				return Decoded{}, errEscape
			}
			i += 2
		}
		switch {
		case c == '\\':
			return Decoded{}, errEscapedMeaning
		case c == '/':
			d.Used |= EncodedSlash
		case c == ';':
			d.Used |= Semicolon
		case unreservedBytes[c]:
			d.Used |= EncodedUnreserved
		}
		b.WriteByte(c)
	}
	d.Text = b.String()
	if d.Parameters < 0 {
		d.Parameters = len(d.Text)
	}
	if !utf8.ValidString(d.Text) {
		d.Used |= NotUTF8
	}
	for part := range strings.SplitSeq(d.Text, "/") {
		if strings.TrimSpace(part) != part {
			d.Used |= OuterSpace
		}
	}
	return d, checkSpelled(d.Text)
}

// checkSpelled returns the error if text, a segment that was decoded once, is refused even with all
// spellings allowed.
func checkSpelled(text string) error {
	valid := strings.ToValidUTF8(text, "")
	for i := range len(text) {
		if isOverlong(text[i:]) {
			return errSegmentText
		}
	}
	switch {
	case containsEscape(text) || containsEscape(valid):
		return errDoubleEscape
	case strings.ContainsFunc(text, unicode.IsControl):
		return errEscapedMeaning
	case readsAsDots(text) || valid != text && (readsAsDots(valid) || readsAsDots(latin1(text))):
		return errDotSegment
	case readsAsEmpty(text) || valid != text && readsAsEmpty(latin1(text)):
		return errEmptyReading
	}
	return nil
}

func containsEscape(text string) bool {
	for i := range len(text) {
		if _, escape := ascii.Escaped(text[i:]); escape {
			return true
		}
	}
	return false
}

// readsAsDots reports whether a server with any of the habits below reads a dot segment in text.
func readsAsDots(text string) bool {
	for part := range strings.SplitSeq(text, "/") {
		start, _, _ := strings.Cut(part, ";")
		switch strings.TrimSpace(start) {
		case ".", "..":
			return true
		}
	}
	return false
}

// readsAsEmpty reports whether a server with any of the habits below except dropsInvalid reads an empty
// segment in text.
func readsAsEmpty(text string) bool {
	empty := true
	for part := range strings.SplitSeq(text, "/") {
		start, _, _ := strings.Cut(part, ";")
		if part != "" && strings.TrimSpace(start) == "" {
			return true
		}
		empty = empty && part == ""
	}
	return empty
}

// isOverlong reports whether s starts with an overlong form of UTF-8 (RFC 3629 section 3). A lenient
// server decodes an overlong form to a shorter character, for example C0 AF to "/".
func isOverlong(s string) bool {
	if len(s) < 2 || s[1]&0xC0 != 0x80 {
		return false
	}
	switch s[0] {
	case 0xC0, 0xC1:
		return true
	case 0xE0:
		return s[1] < 0xA0
	case 0xF0:
		return s[1] < 0x90
	case 0xF8: // five and six bytes, RFC 2279 section 2
		return s[1] < 0x88
	case 0xFC:
		return s[1] < 0x84
	}
	return false
}

// The habits by which servers read the same path differently. A server may have any combination of
// habits. The habits from cutsRawParameters on change the text of a whole segment.
const (
	splitsSlashes     = 1 << iota // decodes the path before splitting it into segments
	mergesSlashes                 // drops empty segments that come from the other habits
	cutsParameters                // after decoding and splitting, drops ";" and the rest of the segment
	trimsSpaces                   // drops spaces around a segment
	cutsRawParameters             // before decoding and splitting, drops ";" and the rest of the segment
	readsLatin1                   // decodes bytes that are not UTF-8 as ISO 8859-1
	dropsInvalid                  // drops bytes that are not UTF-8
	allHabits                     // the number of combinations
)

// Readings yields, for each combination of habits, the segments that a server with these habits reads
// in path, but at most the first most segments. Segments without a spelling are the same in every
// reading. Two combinations may yield equal readings. The caller must not keep a reading, because the
// next reading overwrites it.
func Readings(path []Decoded, most int) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		var reading []string
		without := withoutEffect(path)
		texts := textsOf(path)
		for habits := range allHabits {
			if habits&without != 0 {
				continue
			}
			reading = reading[:0]
			for i := 0; i < len(path) && len(reading) < most; i++ {
				if path[i].Used == 0 {
					reading = append(reading, path[i].Text)
				} else {
					reading = appendReading(reading, texts[i][habits/cutsRawParameters], habits, most)
				}
			}
			if !yield(reading) {
				return
			}
		}
	}
}

// withoutEffect returns the habits that change nothing in path, so that fewer combinations are tried.
func withoutEffect(path []Decoded) (habits int) {
	var used Spellings
	for _, segment := range path {
		used |= segment.Used
	}
	if used&EncodedSlash == 0 {
		habits |= splitsSlashes
	}
	if used&Semicolon == 0 {
		habits |= cutsParameters | cutsRawParameters
	}
	if used&NotUTF8 == 0 {
		habits |= readsLatin1 | dropsInvalid
	}
	return habits
}

// textHabits is the number of combinations of the habits that change the text of a whole segment.
const textHabits = allHabits / cutsRawParameters

// textsOf returns the texts that servers with each combination of cutsRawParameters, readsLatin1 and
// dropsInvalid read in each segment with a spelling. These are made once for all readings.
func textsOf(path []Decoded) [][textHabits]string {
	texts := make([][textHabits]string, len(path))
	for i, segment := range path {
		if segment.Used == 0 {
			continue
		}
		for combination := range textHabits {
			habits, text := combination*cutsRawParameters, segment.Text
			if habits&cutsRawParameters != 0 {
				text = text[:segment.Parameters]
			}
			switch {
			case segment.Used&NotUTF8 == 0:
			case habits&dropsInvalid != 0:
				text = strings.ToValidUTF8(text, "")
			case habits&readsLatin1 != 0 && !utf8.ValidString(text):
				text = latin1(text)
			}
			texts[i][combination] = text
		}
	}
	return texts
}

// appendReading appends to reading the segments into which a server with these habits, a set of the constants
// such as splitsSlashes, turns one segment with this text. It stops when reading has most segments.
func appendReading(reading []string, text string, habits, most int) []string {
	for more := true; more && len(reading) < most; {
		part := text
		if more = false; habits&splitsSlashes != 0 {
			part, text, more = strings.Cut(text, "/")
		}
		if habits&cutsParameters != 0 {
			part, _, _ = strings.Cut(part, ";")
		}
		if habits&trimsSpaces != 0 {
			part = strings.TrimSpace(part)
		}
		if part != "" || habits&mergesSlashes == 0 {
			reading = append(reading, part)
		}
	}
	return reading
}

// latin1 returns text decoded as ISO 8859-1, in which each byte is a character.
func latin1(text string) string {
	runes := make([]rune, len(text))
	for i := range len(text) {
		runes[i] = rune(text[i])
	}
	return string(runes)
}
