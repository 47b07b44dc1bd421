package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tallygate/tallygate/issuer/store"
)

// FillShare stores tokens of a client, with records of this size, at all stores until the client's share is
// used, and returns their number.
func FillShare[S Store](t *testing.T, stores []S, client string, record int, expires int64) int {
	t.Helper()
	var stored atomic.Int64
	var workers sync.WaitGroup
	for w := range 32 {
		workers.Go(func() {
			for n := 0; ; n++ {
				err := stores[w%len(stores)].AddToken(sum(fmt.Sprint(client, expires, w, n)), store.Token{Client: client, Expires: at(expires), Record: make([]byte, record)})
				switch {
				case errors.Is(err, store.ErrShare):
					return
				case err != nil:
					t.Error(err)
					return
				}
				stored.Add(1)
			}
		})
	}
	workers.Wait()
	return int(stored.Load())
}
