package mtls

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
	// maxList bounds the lists of one place in bytes: a million entries of 48 bytes are
	// 46 MiB.
	maxList = 48 << 20
	// maxPlainList is maxList for an http URL: whoever is on the way to it can answer with
	// what is no list at all. 170,000 entries of 48 bytes are 8 MiB.
	maxPlainList = 8 << 20
	// maxSmallList bounds what is read while other lists are. Each larger one waits until
	// no other is read: while it is parsed, one of maxList takes 140 MiB, the bytes twice
	// and 44 MiB for its entries.
	maxSmallList = 1 << 20
	// maxEntries bounds the entries of one place, which stay in memory as long as the list
	// is in force: 42 bytes each in a map that is half full, 44 MiB.
	maxEntries = 1 << 20
	// fetchWithin bounds the reading of one place: maxList at 1 MiB a second.
	fetchWithin = time.Minute
)

var (
	errListEncoded = errors.New("answered with a content encoding, which nobody asked for")
	errSlow        = fmt.Errorf("it took longer than %s", fetchWithin)
	errManyEntries = fmt.Errorf("it holds more than %d entries", maxEntries)
)

func errListTooLarge(most int64) error { return fmt.Errorf("it is larger than %d MiB", most>>20) }

// largeList holds one value while a large list is read and parsed, by whatever Trust.
var largeList = make(chan struct{}, 1)

// most returns how many bytes there may be at s.
func (s *source) most() int64 {
	if s.URL.Scheme == "http" {
		return maxPlainList
	}
	return maxList
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
	data, err = io.ReadAll(io.LimitReader(response.Body, maxSmallList+1))
	if err != nil || len(data) <= maxSmallList {
		return data, func() {}, err
	}
	limit.Stop()
	select {
	case largeList <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	release = func() { <-largeList }
	limit.Reset(fetchWithin)
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

// readListFile returns the content of a file, of at most maxList bytes.
func readListFile(name config.Path) ([]byte, error) {
	file, err := os.Open(string(name))
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	if about, err := file.Stat(); err == nil && about.Size() > maxList {
		return nil, errListTooLarge(maxList)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxList+1))
	if err == nil && len(data) > maxList {
		err = errListTooLarge(maxList)
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
