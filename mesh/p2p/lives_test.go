package p2p

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A worker that left comes back whatever its clock says; where even its record of lives is
// lost it is told why it is refused, and the way out.
func TestLeftAndStartedAgainWithItsClockSetBack(t *testing.T) {
	a := mustNew(t, testConfig(t))
	c := testConfig(t)
	c.Bootstrap, c.IdentityFile = a.Addrs(), filepath.Join(t.TempDir(), "identity")
	ahead := uint64(time.Now().Add(time.Hour).UnixNano())
	if err := os.WriteFile(c.IdentityFile+lifeSuffix, strconv.AppendUint(nil, ahead, 10), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second is started when the clock is an hour behind the first
		m := mustNew(t, c)
		if err := m.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(c.IdentityFile + lifeSuffix); err != nil {
		t.Fatal(err)
	}
	c.JoinTimeout = 500 * time.Millisecond
	m, err := New(t.Context(), c)
	if err == nil {
		m.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "it left in life "+strconv.FormatUint(ahead+2, 10)) || !strings.Contains(err.Error(), "delete its identity") {
		t.Errorf("%v, want an error that says why and the way out", err)
	}
}
