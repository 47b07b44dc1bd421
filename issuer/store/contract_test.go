package store_test

import (
	"testing"

	"github.com/tallygate/tallygate/issuer/store/storetest"
)

func TestFileContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store { return open(t, t.TempDir()) })
}
