package meshtest

import (
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"loco/mesh"
)

func leaveSeen(t *testing.T, start Start) {
	peers := start(t, 3)
	Converge(t, peers, 3)
	gone := peers[2].Mesh.Self()
	peers[2].Leave()
	for _, p := range peers[:2] {
		Await(t, p.Mesh, "want worker 2 left", stateIs(gone, mesh.Left))
		if s, err := tryOpen(p.Mesh, gone, echo); err == nil {
			s.Reset()
			t.Error("a stream to a member that left was opened")
		}
	}
	Converge(t, peers[:2], 2)
}

func killSeen(t *testing.T, start Start) {
	peers := start(t, 3)
	for i, p := range peers {
		serveEcho(p.Mesh)
		p.Mesh.Announce(mesh.Status{Worker: i, Ready: true})
	}
	gone := peers[1].Mesh.Self()
	for _, p := range peers {
		Await(t, p.Mesh, "want three alive", func(ms []mesh.Member) bool {
			n := 0
			for _, m := range ms {
				if m.State == mesh.Alive {
					n++
				}
			}
			return n == 3
		})
	}
	s := open(t, peers[0].Mesh, gone, echo)
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	peers[1].Kill()
	if _, err := io.ReadAll(s); err == nil {
		t.Error("a stream to a killed member ended as if it were complete")
	}
	for _, i := range []int{0, 2} {
		Await(t, peers[i].Mesh, "want worker 1 suspect or dead", stateIs(gone, mesh.Suspect, mesh.Dead))
	}
	for _, i := range []int{0, 2} {
		Await(t, peers[i].Mesh, "want worker 1 dead", stateIs(gone, mesh.Dead))
		if s, err := tryOpen(peers[i].Mesh, gone, echo); err == nil {
			s.Reset()
			t.Error("a stream to a dead member was opened")
		}
	}
	if err := roundTrip(open(t, peers[0].Mesh, peers[2].Mesh.Self(), echo), []byte("still here")); err != nil {
		t.Errorf("between the survivors: %v", err)
	}
}

func endTwice(t *testing.T, start Start) {
	peers := start(t, 3)
	Converge(t, peers, 3)
	peers[0].Leave()
	peers[0].Leave()
	peers[1].Kill()
	peers[1].Kill()
	peers[1].Leave()
	peers[2].Kill()
	// Using what has ended must fail, not hang or panic.
	peers[2].Mesh.Announce(mesh.Status{})
	peers[2].Mesh.View()
	if s, err := tryOpen(peers[2].Mesh, peers[0].Mesh.Self(), echo); err == nil {
		s.Reset()
		t.Error("a stream was opened on a mesh that has ended")
	}
}

func nothingLeftBehind(t *testing.T, start Start) {
	before := goroutines()
	peers := start(t, 3)
	Converge(t, peers, 3)
	serveEcho(peers[1].Mesh)
	if err := roundTrip(open(t, peers[0].Mesh, peers[1].Mesh.Self(), echo), []byte("hello")); err != nil {
		t.Fatal(err)
	}
	peers[0].Leave()
	peers[1].Kill()
	peers[2].Leave()
	deadline := time.NewTimer(giveUp)
	defer deadline.Stop()
	for left := leftSince(before); len(left) > 0; left = leftSince(before) {
		again := time.NewTimer(20 * time.Millisecond)
		select {
		case <-again.C:
		case <-deadline.C:
			t.Fatalf("%d goroutines before, and of those since then %d are left after everything has ended:\n%s", len(before), len(left), strings.Join(left, "\n\n"))
		}
	}
}

// leftSince returns the stacks of the goroutines that were begun since those before.
func leftSince(before map[string]string) (stacks []string) {
	for id, stack := range goroutines() {
		if _, old := before[id]; !old {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

// goroutines returns the stacks, by number, of all goroutines but the runtime's own, which run
// finalizers and cleanups in real time: virtual time may reach its deadline while they do.
func goroutines() map[string]string {
	stacks := map[string]string{}
	all := make([]byte, 4<<20)
	for stack := range strings.SplitSeq(string(all[:runtime.Stack(all, true)]), "\n\n") {
		if !strings.Contains(stack, "\ncreated by runtime.") {
			id, _, _ := strings.Cut(stack, " [") // "goroutine 12"
			stacks[id] = stack
		}
	}
	return stacks
}
