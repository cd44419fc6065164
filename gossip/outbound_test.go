package gossip

import (
	"bytes"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"loco/mesh/sim"
)

// What a worker holds for its peers, goroutines included, is given back when they leave, die
// or are written to no more, and is there again when they are.
func TestLinksAreGivenBack(t *testing.T) {
	const n, length = 6, 1000
	idle := (2*idleGraces + 1) * testGrace
	synctest.Test(t, func(t *testing.T) {
		k := newCluster(t, sim.Options{Peers: n, Latency: time.Millisecond}, "fp32", nil)
		defer k.close()
		synctest.Wait()
		ways := func() (total int) {
			for _, p := range k.peers {
				p.links.mu.Lock()
				total += len(p.links.peers)
				p.links.mu.Unlock()
			}
			return total
		}
		for round := uint64(1); round <= 3; round++ {
			checkAveraged(t, mustCodec(t, "fp32"), k.average(round, length, upTo(n), nil), round, length, upTo(n))
			synctest.Wait()
			if got := ways(); got != n*(n-1) {
				t.Errorf("after round %d there are ways to %d peers, want %d", round, got, n*(n-1))
			}
			<-time.After(idle)
			synctest.Wait()
			stacks := make([]byte, 1<<20)
			stacks = stacks[:runtime.Stack(stacks, true)]
			if kept := bytes.Count(stacks, []byte("(*links).keep(")); kept > 0 || ways() != 0 {
				t.Errorf("%d goroutines and ways to %d peers when idle after round %d", kept, ways(), round)
			}
		}
		// A peer that is gone is not written to, however busy the others are.
		k.net.Kill(4)
		_ = k.net.Peer(5).Close()
		<-time.After(2 * time.Second)
		for round := uint64(4); round <= 4+uint64(idle/time.Second); round++ {
			k.average(round, length, upTo(4), nil)
			<-time.After(time.Second)
		}
		for i := range 4 {
			l := k.peers[i].links
			l.mu.Lock()
			for _, gone := range []int{4, 5} {
				if l.peers[sim.ID(gone)] != nil {
					t.Errorf("worker %d keeps its way to worker %d, which is gone", i, gone)
				}
			}
			if len(l.peers) != 3 {
				t.Errorf("worker %d has ways to %d peers, want 3", i, len(l.peers))
			}
			l.mu.Unlock()
		}
	})
}

// A way that is being given back while somebody writes is not lost with its frame.
func TestLinksWriteWhileGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newCluster(t, sim.Options{Peers: 2}, "fp32", nil)
		defer k.close()
		// Each pause ends at the very moment at which the way has been idle for long enough.
		for round := uint64(1); round <= 20; round++ {
			res := k.average(round, 100, upTo(2), nil)
			checkAveraged(t, mustCodec(t, "fp32"), res, round, 100, upTo(2))
			<-time.After(idleGraces * testGrace)
		}
	})
}
