package store_test

import (
	"testing"
	"time"

	"github.com/tallygate/tallygate/issuer/store/storetest"
)

func TestFileContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store {
		f := open(t, t.TempDir())
		f.FollowEvery(time.Millisecond)
		return f
	})
}
