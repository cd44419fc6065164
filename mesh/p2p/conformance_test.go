package p2p

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"loco/mesh"
	"loco/mesh/meshtest"
)

const testRun = "0123456789abcdef0123456789abcdef"

// testConfig is Default with times for a test on loopback, logging to the test.
func testConfig(t *testing.T) Config {
	c := Default()
	c.RunID = testRun
	c.Worker = nextNumber(t)
	c.Canonical = []string{"model.layers=2", "sync.strategy=diloco"}
	c.Heartbeat = 100 * time.Millisecond
	c.SuspectAfter = 3 * time.Second
	c.DeadAfter = 6 * time.Second
	c.DeadAfterRefused = 300 * time.Millisecond
	c.RedialMax = 500 * time.Millisecond
	c.Logger = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	return c
}

// numbers are the next worker's of each test that runs.
var numbers sync.Map

// nextNumber counts a test's workers from 0.
func nextNumber(t *testing.T) int {
	next, old := numbers.LoadOrStore(t, new(atomic.Int64))
	if !old {
		t.Cleanup(func() { numbers.Delete(t) })
	}
	return int(next.(*atomic.Int64).Add(1)) - 1
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

func TestConformance(t *testing.T) {
	meshtest.Run(t, func(t *testing.T, n int) []meshtest.Peer {
		return testPeers(t, n, func(int) Config { return testConfig(t) }, func(_ int, m *Mesh) { m.Close() })
	})
}

// testPeers starts n members, the others through the first. kill ends one at once.
func testPeers(t *testing.T, n int, config func(i int) Config, kill func(i int, m *Mesh)) []meshtest.Peer {
	peers, dir := make([]meshtest.Peer, n), t.TempDir()
	now := make([]*Mesh, n) // the newest process of each
	begin := func(i int) *Mesh {
		c := config(i)
		c.Worker, c.IdentityFile = i, filepath.Join(dir, fmt.Sprint("identity-", i))
		for k, m := range now {
			if k != i && m != nil && !m.isEnded() {
				c.Bootstrap = append(c.Bootstrap, m.Addrs()...)
				break
			}
		}
		now[i] = mustNew(t, c)
		return now[i]
	}
	for i := range peers {
		peers[i] = meshtest.Peer{
			Mesh: begin(i), Kill: func() { kill(i, now[i]) }, Restart: func() mesh.Mesh { return begin(i) },
			Leave: func() {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				if err := now[i].Leave(ctx); err != nil {
					t.Error(err)
				}
			},
		}
	}
	return peers
}

func (m *Mesh) isEnded() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ended
}
