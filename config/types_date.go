package config

import (
	"errors"
	"time"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

// Date is a day, from its beginning to its end in UTC.
type Date struct{ begin time.Time }

// DateOf returns the day of t in UTC.
func DateOf(t time.Time) Date { return Date{t.UTC().Truncate(24 * time.Hour)} }

// UnmarshalText reads a date of RFC 3339, such as 2027-06-30.
func (d *Date) UnmarshalText(text []byte) error {
	begin, err := time.Parse(time.DateOnly, string(text))
	if err != nil || begin.IsZero() {
		return errors.New("expected a date such as 2027-06-30, got " + strictyaml.Quote(string(text)))
	}
	d.begin = begin
	return nil
}

// IsZero reports whether there is no date.
func (d Date) IsZero() bool { return d.begin.IsZero() }

// End returns when the day is over, the zero time where there is none.
func (d Date) End() time.Time {
	if d.IsZero() {
		return time.Time{}
	}
	return d.begin.AddDate(0, 0, 1)
}

// String returns d as it is read, "" for none.
func (d Date) String() string {
	if d.IsZero() {
		return ""
	}
	return d.begin.Format(time.DateOnly)
}
