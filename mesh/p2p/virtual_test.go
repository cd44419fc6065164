package p2p

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"loco/mesh"
	"loco/mesh/meshtest"
	"loco/mesh/p2p/p2ptest"
	"loco/mesh/sim"
)

// virtualConfig is testConfig for the process on a machine of a simulated network.
func virtualConfig(t *testing.T, net *sim.Net, i int) Config {
	c := testConfig(t)
	c.Worker = i
	c.Network, c.Listen = p2ptest.On(net, i), []string{p2ptest.Listen(i)}
	return c
}

// TestConformanceInVirtualTime is the mesh's contract over links like those between homes,
// for everybody and for the members of one lane.
func TestConformanceInVirtualTime(t *testing.T) { meshtest.RunVirtual(t, virtualPeers(0)) }

func TestLaneConformanceInVirtualTime(t *testing.T) {
	if testing.Short() {
		t.Skip("mesh.TestLaneContract is the same over mesh/sim")
	}
	meshtest.RunVirtual(t, virtualPeers(mesh.LaneMax))
}

func virtualPeers(lane int) meshtest.Start {
	return func(t *testing.T, n int) []meshtest.Peer {
		net := sim.NewWith(sim.Options{Peers: n, Latency: 20 * time.Millisecond, Bandwidth: 12 << 20, Jitter: 0.3, Buffer: p2ptest.Window, Detection: 1000 * time.Hour})
		t.Cleanup(net.Close)
		lives := make([]int, n)
		peers := testPeers(t, n, func(i int) Config {
			if lives[i]++; lives[i] > 1 {
				net.Restart(i)
			}
			return virtualConfig(t, net, i)
		}, func(i int, m *Mesh) { net.Kill(i); m.Close() })
		for i := range peers {
			again := peers[i].Restart
			peers[i].Mesh, peers[i].Restart = mesh.Lane(peers[i].Mesh, lane), func() mesh.Mesh { return mesh.Lane(again(), lane) }
			peers[i].Cut = func(on bool) {
				if on {
					net.Partition([]int{i})
				} else {
					net.Partition()
				}
			}
		}
		return peers
	}
}

// runVirtual starts n ready members, each knowing the first.
func runVirtual(t *testing.T, net *sim.Net, n int) []*Mesh {
	var all []*Mesh
	for i := range n {
		c := virtualConfig(t, net, i)
		c.Heartbeat = time.Second
		if i > 0 {
			c.Bootstrap = all[0].Addrs()
		}
		m := mustNew(t, c)
		m.Announce(mesh.Status{Ready: true})
		all = append(all, m)
	}
	return all
}

// awaitAll waits until everybody sees n members alive.
func awaitAll(t *testing.T, all []*Mesh, n int) {
	t.Helper()
	for _, m := range all {
		meshtest.Await(t, m, fmt.Sprintf("want %d alive", n), func(ms []mesh.Member) bool {
			alive := 0
			for _, o := range ms {
				if o.State == mesh.Alive {
					alive++
				}
			}
			return alive == n
		})
	}
}

// Members that were taken for dead while they were cut off, alone or not, are members
// again soon afterwards, whether or not the connections survived.
func TestTheDeadComeBack(t *testing.T) {
	for name, c := range map[string]struct {
		lasts time.Duration
		begin func(net *sim.Net)
		end   func(net *sim.Net)
	}{
		"alone for longer than DeadAfter":   {10 * time.Second, func(net *sim.Net) { net.Partition([]int{1}) }, func(net *sim.Net) { net.Partition() }},
		"alone until connections break":     {2 * time.Minute, func(net *sim.Net) { net.Partition([]int{1}) }, func(net *sim.Net) { net.Partition() }},
		"cut off for longer than DeadAfter": {10 * time.Second, func(net *sim.Net) { net.Partition([]int{0, 1}) }, func(net *sim.Net) { net.Partition() }},
		"cut off until connections break":   {2 * time.Minute, func(net *sim.Net) { net.Partition([]int{0, 1}) }, func(net *sim.Net) { net.Partition() }},
		"the first cut off":                 {2 * time.Minute, func(net *sim.Net) { net.Partition([]int{0}) }, func(net *sim.Net) { net.Partition() }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 4
				net, all := meetVirtually(t, n)
				c.begin(net)
				<-time.After(c.lasts)
				c.end(net)
				awaitAll(t, all, n)
			})
		})
	}
}

// meetVirtually runs n members on a calm network until they see each other.
func meetVirtually(t *testing.T, n int) (*sim.Net, []*Mesh) {
	t.Helper()
	net := sim.NewWith(sim.Options{Peers: n, Latency: 20 * time.Millisecond, Buffer: p2ptest.Window, Detection: 1000 * time.Hour})
	t.Cleanup(net.Close)
	all := runVirtual(t, net, n)
	awaitAll(t, all, n)
	return net, all
}

// What a member says of itself reaches members that only one other connects to it.
func TestHeartbeatsAreRelayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 8
		net, all := meetVirtually(t, n)
		for i := 2; i < n; i++ {
			net.Cut(1, i, true)
			net.Cut(i, 1, true)
		}
		<-time.After(time.Minute) // until connections break
		for round := uint64(1); round <= 3; round++ {
			all[1].Announce(mesh.Status{Ready: true, Round: round})
			for _, m := range all[2:] {
				meshtest.Await(t, m, fmt.Sprintf("want round %d of worker 1", round), func(ms []mesh.Member) bool {
					return meshtest.Find(t, ms, all[1].Self()).Round == round
				})
			}
		}
	})
}

// A process that is gone from a machine that is there is dead before its silence says so:
// the machine refuses connections, over the network that the mesh is on.
func TestTheKilledAreDeadAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 3
		net, all := meetVirtually(t, n)
		killed := time.Now()
		net.Kill(1)
		all[1].Close()
		for _, m := range []*Mesh{all[0], all[2]} {
			meshtest.Await(t, m, "want it dead", func(ms []mesh.Member) bool { return meshtest.Find(t, ms, all[1].Self()).State == mesh.Dead })
		}
		if took := time.Since(killed); took > 2*time.Second { // the floor of a suspicion, after which silence counts
			t.Errorf("dead after %v", took)
		}
	})
}
