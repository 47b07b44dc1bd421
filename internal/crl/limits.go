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
	"github.com/tallygate/tallygate/internal/fetch"
)

// The limits of revocation lists.
const (
	// maxBytes bounds the lists of one source: a million entries of 48 bytes are 46 MiB.
	maxBytes = 48 << 20
	// maxBytesHTTP is the bound for an http URL, where an attacker on the network can send any
	// response. 170,000 entries of 48 bytes are 8 MiB.
	maxBytesHTTP = 8 << 20
	// smallList is the largest list that is read concurrently with others. Larger lists are read one
	// after another, because parsing a list of maxBytes takes 140 MiB: 2 * 48 MiB for its bytes and 44
	// MiB for its entries.
	smallList = 1 << 20
	// maxEntries bounds the entries of one source, which stay in memory while the list is in
	// force: 42 bytes each in a map that is half full, 44 MB.
	maxEntries = 1 << 20
	// fetchTimeout bounds a fetch: 48 MiB in 60 s are 0.8 MiB a second.
	fetchTimeout = time.Minute
)

var (
	errSlow        = fmt.Errorf("the fetch took longer than %s", fetchTimeout)
	errManyEntries = fmt.Errorf("the lists have more than %d entries", maxEntries)
)

func errListTooLarge(most int64) error { return fmt.Errorf("larger than %d MiB", most>>20) }

// largeList holds a value while a large list is read and parsed, by any Checker of the process.
var largeList = make(chan struct{}, 1)

// maxSize returns the bound on the bytes of s.
func (s *source) maxSize() int64 {
	if s.URL.Scheme == "http" {
		return maxBytesHTTP
	}
	return maxBytes
}

// readList returns the body of response. It returns an error for a body of more than most bytes, and
// for any content encoding, because a few compressed bytes may expand without bound. timeout cancels
// ctx. readList stops timeout while a large list waits for other large lists. The caller must call
// release when the list has been parsed. With an error, release is nil.
func readList(ctx context.Context, response *http.Response, most int64, timeout *time.Timer) (data []byte, release func(), err error) {
	switch {
	case len(response.Header.Values("Content-Encoding")) > 0:
		return nil, nil, fetch.ErrEncoded
	case response.ContentLength > most:
		return nil, nil, errListTooLarge(most)
	}
	data, err = io.ReadAll(io.LimitReader(response.Body, smallList+1))
	if err != nil || len(data) <= smallList {
		return data, func() {}, err
	}
	timeout.Stop()
	select {
	case largeList <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	release = func() { <-largeList }
	timeout.Reset(fetchTimeout)
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

// readListFile returns the content of a file of at most maxBytes bytes.
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

// timeoutError returns errSlow if the timeout canceled ctx and so caused err, otherwise err.
func timeoutError(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errSlow) {
		return errSlow
	}
	return err
}

// maxLists bounds the lists of one source. Each request makes a look-up in each list for each
// certificate, and an attacker could send one published list many times.
const maxLists = 256

var errManyLists = fmt.Errorf("the source has more than %d lists", maxLists)
