package mesh_test

import (
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"loco/mesh"
	"loco/mesh/meshtest"
	"loco/mesh/sim"
)

// A lane's mesh keeps the contract, beside members of another lane and of none.
func TestLaneContract(t *testing.T) {
	meshtest.RunVirtual(t, func(t *testing.T, n int) []meshtest.Peer {
		const others = 2
		net := sim.NewWith(sim.Options{Peers: n + others, Latency: 20 * time.Millisecond, Detection: 100 * time.Millisecond})
		t.Cleanup(net.Close)
		for i := range others {
			m := mesh.Lane(net.Peer(n+i), i)
			m.Announce(mesh.Status{Worker: i, Ready: true})
		}
		var peers []meshtest.Peer
		for i := range n {
			peers = append(peers, meshtest.Peer{
				Mesh:  mesh.Lane(net.Peer(i), 2),
				Leave: func() { _ = net.Peer(i).Close() },
				Kill:  func() { net.Kill(i) },

				Restart: func() mesh.Mesh { return mesh.Lane(net.Restart(i), 2) },
				Cut: func(on bool) {
					if on {
						net.Partition([]int{i})
					} else {
						net.Partition()
					}
				},
			})
		}
		return peers
	})
}

func TestLaneZeroIsTheMesh(t *testing.T) {
	net := sim.New(1)
	defer net.Close()
	if m := mesh.Lane(net.Peer(0), 0); m != mesh.Mesh(net.Peer(0)) {
		t.Errorf("lane 0 is %T, want the mesh itself", m)
	}
}

func TestLaneRefuses(t *testing.T) {
	net := sim.New(1)
	defer net.Close()
	for name, make := range map[string]func() mesh.Mesh{
		"below":          func() mesh.Mesh { return mesh.Lane(net.Peer(0), -1) },
		"above":          func() mesh.Mesh { return mesh.Lane(net.Peer(0), mesh.LaneMax+1) },
		"a lane's lane":  func() mesh.Mesh { return mesh.Lane(mesh.Lane(net.Peer(0), 1), 2) },
		"its lane again": func() mesh.Mesh { return mesh.Lane(mesh.Lane(net.Peer(0), 1), 1) },
	} {
		func() {
			defer func() {
				if why, _ := recover().(string); !strings.Contains(why, "want 0 to 65535") {
					t.Errorf("%s: panic %q", name, why)
				}
			}()
			make()
		}()
	}
	if mesh.Lane(net.Peer(0), mesh.LaneMax) == nil {
		t.Error("the highest lane is refused")
	}
}

// Members of a lane see and reach only each other; in lane 0 everybody is seen, with the
// lane that it is in.
func TestLanesAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := sim.NewWith(sim.Options{Peers: 4, Latency: 20 * time.Millisecond})
		t.Cleanup(net.Close)
		one, two, all := mesh.Lane(net.Peer(0), 1), mesh.Lane(net.Peer(1), 2), mesh.Lane(net.Peer(3), 0)
		net.Peer(2).Announce(mesh.Status{Worker: 2, Lane: 1, Ready: true, Round: 7}) // by hand
		for _, m := range []mesh.Mesh{one, two, all} {
			m.Handle("ask", answer)
		}
		isSeen := func(m mesh.Mesh, want ...mesh.Status) {
			t.Helper()
			meshtest.Await(t, m, "want other members", func(members []mesh.Member) bool {
				var seen []mesh.Status
				for _, m := range members {
					seen = append(seen, m.Status)
				}
				return slices.Equal(seen, want)
			})
		}
		isSeen(one, mesh.Status{}, mesh.Status{Worker: 2, Ready: true, Round: 7})
		isSeen(two, mesh.Status{Worker: 1})
		isSeen(all, mesh.Status{Lane: 1}, mesh.Status{Worker: 1, Lane: 2}, mesh.Status{Worker: 2, Lane: 1, Ready: true, Round: 7}, mesh.Status{Worker: 3})
		if _, err := one.Open(t.Context(), sim.ID(1), "ask"); err == nil || !strings.Contains(err.Error(), "no member of lane 1") {
			t.Errorf("from lane 1 to lane 2: %v", err)
		}
		if got, err := ask(t, all, sim.ID(1), "ask"); err == nil {
			t.Errorf("from everybody's lane to lane 2: %q", got)
		}
		if got, err := ask(t, net.Peer(2), sim.ID(0), "lane-1/ask"); err != nil || got != "hello, peer-002" {
			t.Errorf("in lane 1: %q, %v", got, err)
		}
		_, changed := two.View()
		net.Peer(1).Announce(mesh.Status{Worker: 1, Lane: 1})
		<-changed
		isSeen(one, mesh.Status{}, mesh.Status{Worker: 1}, mesh.Status{Worker: 2, Ready: true, Round: 7})
		isSeen(two, mesh.Status{Worker: 1}) // this peer itself
	})
}

// A stream that is faster than its opener's heartbeat waits for that, and one of a peer
// that is not of the lane is reset in the end.
func TestLaneAwaitsTheHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := sim.New(2)
		t.Cleanup(net.Close)
		mesh.Lane(net.Peer(0), 1).Handle("ask", answer)
		start := time.Now()
		if got, err := ask(t, net.Peer(1), sim.ID(0), "lane-1/ask"); err == nil || time.Since(start) != 10*time.Second {
			t.Errorf("a stranger got %q, %v, after %v", got, err, time.Since(start))
		}
		time.AfterFunc(9*time.Second, func() { mesh.Lane(net.Peer(1), 1) })
		if got, err := ask(t, net.Peer(1), sim.ID(0), "lane-1/ask"); got != "hello, peer-001" {
			t.Errorf("a late member got %q, %v", got, err)
		}
	})
}

func answer(from mesh.ID, s mesh.Stream) {
	defer s.Close()
	io.WriteString(s, "hello, "+string(from))
}

func ask(t *testing.T, m mesh.Mesh, to mesh.ID, protocol string) (string, error) {
	t.Helper()
	s, err := m.Open(t.Context(), to, protocol)
	if err != nil {
		return "", err
	}
	defer s.Reset()
	all, err := io.ReadAll(s)
	return string(all), err
}
