package protosim

import (
	"os"
	"runtime/debug"
	"testing"
)

// TestMain lets garbage grow: a schedule keeps a few megabytes, and collects them all the time
// otherwise.
func TestMain(m *testing.M) {
	debug.SetGCPercent(800)
	os.Exit(m.Run())
}
