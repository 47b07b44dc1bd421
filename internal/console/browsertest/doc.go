// Package browsertest has the tests of the console in a real browser. It is a module of its own, because the
// gate needs no client of a browser.
package browsertest
