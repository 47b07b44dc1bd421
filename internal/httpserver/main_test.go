package httpserver

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// testTimeout bounds every wait of a test.
const testTimeout = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
