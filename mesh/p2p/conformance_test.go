package p2p

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"loco/mesh/meshtest"
)

const testRun = "0123456789abcdef0123456789abcdef"

// testConfig is Default with times for a test on loopback, logging to the test.
func testConfig(t *testing.T) Config {
	c := Default()
	c.RunID = testRun
	c.Canonical = []string{"model.layers=2", "sync.strategy=diloco"}
	c.Heartbeat = 100 * time.Millisecond
	c.SuspectAfter = 3 * time.Second
	c.DeadAfter = 6 * time.Second
	c.DeadAfterRefused = 300 * time.Millisecond
	c.RedialMax = 500 * time.Millisecond
	c.Logger = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	return c
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	fmt.Fprintf(w.t.Output(), "%s\n", strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

// mustNew joins, and closes at the end of the test.
func mustNew(t *testing.T, c Config) *Mesh {
	t.Helper()
	m, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// testPeer is a member that can leave, and be killed.
func testPeer(t *testing.T, m *Mesh, kill func()) meshtest.Peer {
	return meshtest.Peer{
		Mesh: m,
		Leave: func() {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			if err := m.Leave(ctx); err != nil {
				t.Error(err)
			}
		},
		Kill: kill,
	}
}

func TestConformance(t *testing.T) {
	meshtest.Run(t, func(t *testing.T, n int) []meshtest.Peer {
		peers := make([]meshtest.Peer, n)
		var first []string
		for i := range peers {
			c := testConfig(t)
			c.Bootstrap = first
			m := mustNew(t, c)
			if i == 0 {
				first = m.Addrs()
			}
			peers[i] = testPeer(t, m, func() { m.Close() })
		}
		return peers
	})
}
