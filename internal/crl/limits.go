package crl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/tallygate/tallygate/config"
)

// What a revocation list may take.
const (
	// maxBytes bounds the lists of one place in bytes: a million entries of 48 bytes are
	// 46 MiB.
	maxBytes = 48 << 20
	// maxBytesHTTP is maxBytes for an http URL: whoever is on the way to it can answer with
	// what is no list at all. 170,000 entries of 48 bytes are 8 MiB.
	maxBytesHTTP = 8 << 20
	// smallList bounds what is read while other lists are. Each larger one waits until
	// no other is read: while it is parsed, one of maxBytes takes 140 MiB, the bytes twice
	// and 44 MiB for its entries.
	smallList = 1 << 20
	// maxEntries bounds the entries of one place, which stay in memory as long as the list
	// is in force: 42 bytes each in a map that is half full, 44 MiB.
	maxEntries = 1 << 20
	// fetchTimeout bounds the reading of one place: maxBytes at 1 MiB a second.
	fetchTimeout = time.Minute
)

var (
	errListEncoded = errors.New("answered with a content encoding, which nobody asked for")
	errSlow        = fmt.Errorf("it took longer than %s", fetchTimeout)
	errManyEntries = fmt.Errorf("it holds more than %d entries", maxEntries)
)

func errListTooLarge(most int64) error { return fmt.Errorf("it is larger than %d MiB", most>>20) }

// largeList holds one value while a large list is read and parsed, by whatever Trust.
var largeList = make(chan struct{}, 1)

// most returns how many bytes there may be at s.
func (s *source) most() int64 {
	if s.URL.Scheme == "http" {
		return maxBytesHTTP
	}
	return maxBytes
}

// readList returns the body of response, which has no more than most bytes and no content
// encoding: a few compressed bytes become as many as their sender likes. limit, which ends
// ctx, does not run while a large list waits for others. release must be called when the
// list has been parsed; it is nil with an error.
func readList(ctx context.Context, response *http.Response, most int64, limit *time.Timer) (data []byte, release func(), err error) {
	switch {
	case len(response.Header.Values("Content-Encoding")) > 0:
		return nil, nil, errListEncoded
	case response.ContentLength > most:
		return nil, nil, errListTooLarge(most)
	}
	data, err = io.ReadAll(io.LimitReader(response.Body, smallList+1))
	if err != nil || len(data) <= smallList {
		return data, func() {}, err
	}
	limit.Stop()
	select {
	case largeList <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	release = func() { <-largeList }
	limit.Reset(fetchTimeout)
	all := bytes.NewBuffer(make([]byte, 0, max(response.ContentLength, int64(len(data)))+bytes.MinRead))
	all.Write(data)
	_, err = all.ReadFrom(io.LimitReader(response.Body, most+1-int64(len(data))))
	if err == nil && int64(all.Len()) > most {
		err = errListTooLarge(most)
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return all.Bytes(), release, nil
}

// readListFile returns the content of a file, of at most maxBytes bytes.
func readListFile(name config.Path) ([]byte, error) {
	file, err := os.Open(string(name))
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	if about, err := file.Stat(); err == nil && about.Size() > maxBytes {
		return nil, errListTooLarge(maxBytes)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxBytes+1))
	if err == nil && len(data) > maxBytes {
		err = errListTooLarge(maxBytes)
	}
	return data, err
}

// errOf returns errSlow where that ended ctx and so brought err about, otherwise err.
func errOf(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errSlow) {
		return errSlow
	}
	return err
}
