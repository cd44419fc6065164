package p2p

import (
	"flag"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"loco/mesh"
	"loco/mesh/meshtest"
	"loco/mesh/p2p/p2ptest"
	"loco/mesh/sim"
)

// hosts is for runs with more members than belong into every test run.
var hosts = flag.Int("p2p.hosts", 16, "members of TestManyMembersInVirtualTime")

// hostsMax is lower under the race detector, which stands 8,128 goroutines at a time.
var hostsMax = 1000

// Many workers find each other through one of them, see some of themselves go, and hear of
// each other as often as the settings say.
func TestManyMembersInVirtualTime(t *testing.T) {
	n := min(*hosts, hostsMax)
	if testing.Short() {
		n = min(n, 8)
	}
	const heartbeat = 15 * time.Second // as between machines that are far apart
	synctest.Test(t, func(t *testing.T) {
		net := sim.NewWith(sim.Options{Peers: n, Latency: 20 * time.Millisecond, Jitter: 0.3, Buffer: p2ptest.Window, Detection: 1 << 60})
		t.Cleanup(net.Close)
		start := time.Now()
		var all []*Mesh
		for i := range n {
			c := virtualConfig(t, net, i)
			c.Logger = nil
			c.Heartbeat, c.ProbeEvery, c.SuspectAfter, c.DeadAfter = heartbeat, 5*time.Second, time.Minute, 3*time.Minute
			if i > 0 {
				c.Bootstrap = all[0].Addrs()
			}
			m := mustNew(t, c)
			m.Announce(mesh.Status{Ready: true})
			all = append(all, m)
		}
		awaitAll(t, all, n)
		t.Logf("%d members see each other after %v", n, time.Since(start))
		var gone []int
		for i := 1; i <= max(1, n/10); i++ {
			gone = append(gone, i)
		}
		net.Partition(gone) // with their machines: nothing refuses there
		for _, i := range gone {
			all[i].Close()
		}
		left := append([]*Mesh{all[0]}, all[len(gone)+1:]...)
		<-time.After(4 * time.Minute) // more than DeadAfter
		for _, m := range left {
			members, _ := m.View()
			if meshtest.Live(members) != len(left) {
				t.Fatalf("%s sees %d live members, want %d", m.Self(), meshtest.Live(members), len(left))
			}
			for _, o := range members {
				if o.State == mesh.Alive && o.Silent > 2*heartbeat {
					t.Errorf("%s has heard nothing of %s for %v", m.Self(), o.ID, o.Silent)
				}
			}
		}
		t.Logf("%d goroutines", runtime.NumGoroutine())
	})
}
