package meshtest

import (
	"testing"

	"loco/mesh"
)

// allReady makes all peers ready, and waits until all see that.
func allReady(t *testing.T, peers []Peer) {
	t.Helper()
	for i, p := range peers {
		p.Mesh.Announce(mesh.Status{Worker: i, Ready: true})
	}
	for _, p := range peers {
		awaitAlive(t, p.Mesh, len(peers))
	}
}

func awaitAlive(t *testing.T, m mesh.Mesh, n int) {
	t.Helper()
	Await(t, m, "want all alive", func(ms []mesh.Member) bool {
		alive := 0
		for _, m := range ms {
			if m.State == mesh.Alive {
				alive++
			}
		}
		return alive == n
	})
}

func begunFires(t *testing.T, start Start) {
	peers := start(t, 2)
	allReady(t, peers)
	for _, begun := range []bool{true, false} {
		_, theirs := peers[0].Mesh.View()
		_, own := peers[1].Mesh.View()
		peers[1].Mesh.Announce(mesh.Status{Worker: 1, Ready: true, Begun: begun})
		wait(t, "Begun at the other", theirs)
		wait(t, "Begun at itself", own)
		Await(t, peers[0].Mesh, "want worker 1 as it says", func(ms []mesh.Member) bool {
			return Find(t, ms, peers[1].Mesh.Self()).Begun == begun
		})
	}
}

// restartSeen wants a process that takes the place of one that was killed, and of one that
// left, to be a member again: in its own state, and without what the former one served.
func restartSeen(t *testing.T, start Start) {
	peers := start(t, 3)
	if peers[1].Restart == nil {
		t.Skip("this bed starts no process again")
	}
	for _, c := range []struct {
		name string
		i    int
		end  func()
	}{{"killed", 1, peers[1].Kill}, {"left", 2, peers[2].Leave}} {
		name, i := c.name, c.i
		allReady(t, peers)
		id := peers[i].Mesh.Self()
		serveEcho(peers[i].Mesh)
		if err := roundTrip(open(t, peers[0].Mesh, id, echo), []byte("before")); err != nil {
			t.Fatal(err)
		}
		_, changed := peers[0].Mesh.View()
		c.end()
		m := peers[i].Restart()
		peers[i].Mesh = m
		if m.Self() != id {
			t.Fatalf("%s: the next process is %s, want %s", name, m.Self(), id)
		}
		wait(t, name+": a change at another", changed)
		Await(t, peers[0].Mesh, name+": want it joining", stateIs(id, mesh.Joining))
		if s, err := tryOpen(peers[0].Mesh, id, echo); err == nil {
			s.Reset()
			t.Errorf("%s: the next process serves what the former one did", name)
		}
		serveEcho(m)
		m.Announce(mesh.Status{Worker: i, Ready: true})
		Await(t, peers[0].Mesh, name+": want it alive", stateIs(id, mesh.Alive))
		if err := roundTrip(open(t, peers[0].Mesh, id, echo), []byte("after")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// partitionHeals wants members that were cut off to be suspect, and dead if that lasts, for
// both sides, and alive again without anybody's help.
func partitionHeals(t *testing.T, start Start) {
	peers := start(t, 3)
	if peers[2].Cut == nil {
		t.Skip("this bed has no network that breaks")
	}
	allReady(t, peers)
	away := peers[2].Mesh.Self()
	for _, c := range []struct {
		what  string
		until []mesh.State
	}{{"suspect", []mesh.State{mesh.Suspect, mesh.Dead}}, {"dead", []mesh.State{mesh.Dead}}} {
		_, changed := peers[0].Mesh.View()
		peers[2].Cut(true)
		wait(t, "a change when a member is cut off", changed)
		for _, p := range peers[:2] {
			Await(t, p.Mesh, "want worker 2 "+c.what, stateIs(away, c.until...))
			Await(t, peers[2].Mesh, "want the others "+c.what, stateIs(p.Mesh.Self(), c.until...))
		}
		peers[2].Cut(false)
		for _, p := range peers {
			awaitAlive(t, p.Mesh, 3)
		}
	}
	serveEcho(peers[2].Mesh)
	if err := roundTrip(open(t, peers[0].Mesh, away, echo), []byte("hello")); err != nil {
		t.Errorf("after the heal: %v", err)
	}
}
