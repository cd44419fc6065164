package p2p

import (
	"reflect"
	"testing"
	"time"

	"loco/mesh"
)

func pureMembers() *members {
	c := Default()
	c.SuspectAfter, c.DeadAfter, c.DeadAfterRefused, c.Forget = 4*time.Second, 15*time.Second, time.Second, time.Minute
	return newMembers(c, "self", Heartbeat{})
}

func beatOf(worker int, ready bool, incarnation, seq uint64) Heartbeat {
	return Heartbeat{Status: mesh.Status{Worker: worker, Ready: ready}, Incarnation: incarnation, Seq: seq}
}

// step is one event of a member "a" and the state that must follow. An event
// returns whether it reports a change.
type step struct {
	at      time.Duration
	what    string
	event   func(m *members, now time.Duration) bool
	changed bool
	want    mesh.State
}

func admit(beat Heartbeat) func(*members, time.Duration) bool {
	return func(m *members, now time.Duration) bool { c, _ := m.admit("a", beat, now); return c }
}

func beat(b Heartbeat) func(*members, time.Duration) bool {
	return func(m *members, now time.Duration) bool { c, _ := m.heartbeat("a", b, now); return c }
}

func hear(m *members, now time.Duration) bool   { return m.hear("a", now) }
func refuse(m *members, now time.Duration) bool { return m.refuse("a", now) }
func tick(m *members, now time.Duration) bool   { return m.tick(now) }

func bye(incarnation uint64) func(*members, time.Duration) bool {
	return func(m *members, now time.Duration) bool { return m.goodbye("a", incarnation, now) }
}

func TestMembersTransitions(t *testing.T) {
	const s = time.Second
	left := beatOf(1, true, 1, 9)
	left.Left = true
	for name, steps := range map[string][]step{
		"joining becomes alive by its own word": {
			{0, "admit", admit(beatOf(1, false, 1, 1)), true, mesh.Joining},
			{1 * s, "not ready yet", beat(beatOf(1, false, 1, 2)), false, mesh.Joining},
			{2 * s, "ready", beat(beatOf(1, true, 1, 3)), true, mesh.Alive},
			{3 * s, "not any more", beat(beatOf(1, false, 1, 4)), true, mesh.Joining},
		},
		"silence": {
			{0, "admit", admit(beatOf(1, true, 1, 1)), true, mesh.Alive},
			{4*s - 1, "not yet", tick, false, mesh.Alive},
			{4 * s, "suspect", tick, true, mesh.Suspect},
			{5 * s, "heard", beat(beatOf(1, true, 1, 2)), true, mesh.Alive},
			{9 * s, "suspect again", tick, true, mesh.Suspect},
			{20*s - 1, "still", tick, false, mesh.Suspect},
			{20 * s, "dead", tick, true, mesh.Dead},
		},
		"bytes on a stream count as being heard": {
			{0, "admit", admit(beatOf(1, true, 1, 1)), true, mesh.Alive},
			{4 * s, "suspect", tick, true, mesh.Suspect},
			{5 * s, "bytes", hear, true, mesh.Alive},
			{8 * s, "tick", tick, false, mesh.Alive},
			{9 * s, "suspect", tick, true, mesh.Suspect},
		},
		"an old heartbeat proves nothing": {
			{0, "admit", admit(beatOf(1, true, 1, 7)), true, mesh.Alive},
			{3 * s, "repeated", beat(beatOf(1, false, 1, 7)), false, mesh.Alive},
			{3 * s, "late", beat(beatOf(1, false, 1, 6)), false, mesh.Alive},
			{3 * s, "of a former life", beat(beatOf(1, false, 0, 99)), false, mesh.Alive},
			{4 * s, "still silent since 0", tick, true, mesh.Suspect},
		},
		"a refused dial": {
			{0, "admit", admit(beatOf(1, true, 1, 1)), true, mesh.Alive},
			{1 * s, "refused", refuse, true, mesh.Suspect},
			{1500 * time.Millisecond, "refused again", refuse, false, mesh.Suspect},
			{2*s - 1, "not yet", tick, false, mesh.Suspect},
			{2 * s, "dead one second after the first", tick, true, mesh.Dead},
		},
		"a refusing member that gossip still tells of is not reachable": {
			{0, "admit", admit(beatOf(1, true, 1, 1)), true, mesh.Alive},
			{1 * s, "refused", refuse, true, mesh.Suspect},
			{1 * s, "gossip", beat(beatOf(1, true, 1, 2)), false, mesh.Suspect},
			{2 * s, "dead", tick, true, mesh.Dead},
			{2 * s, "gossip", beat(beatOf(1, true, 1, 3)), false, mesh.Dead},
			{3 * s, "reached", admit(beatOf(1, true, 1, 4)), true, mesh.Alive},
		},
		"reached before it was dead": {
			{0, "admit", admit(beatOf(1, true, 1, 1)), true, mesh.Alive},
			{1 * s, "refused", refuse, true, mesh.Suspect},
			{1500 * time.Millisecond, "reached", admit(beatOf(1, true, 1, 2)), true, mesh.Alive},
			{3 * s, "forgiven", tick, false, mesh.Alive},
		},
		"goodbye": {
			{0, "admit", admit(beatOf(1, true, 1, 1)), true, mesh.Alive},
			{1 * s, "goodbye", bye(1), true, mesh.Left},
			{1 * s, "goodbye again", bye(1), false, mesh.Left},
			{2 * s, "late gossip", beat(beatOf(1, true, 1, 9)), false, mesh.Left},
			{2 * s, "late hello", admit(beatOf(1, true, 1, 9)), false, mesh.Left},
			{3 * s, "silence means nothing", tick, false, mesh.Left},
			{4 * s, "a new life", admit(beatOf(1, false, 2, 1)), true, mesh.Joining},
			{5 * s, "a goodbye of the former", bye(1), false, mesh.Joining},
		},
		"goodbye by gossip": {
			{0, "admit", admit(beatOf(1, true, 1, 1)), true, mesh.Alive},
			{1 * s, "goodbye", beat(left), true, mesh.Left},
		},
		"restart before anybody noticed": {
			{0, "admit", admit(beatOf(1, true, 1, 5)), true, mesh.Alive},
			{1 * s, "gossip of the new life comes first", beat(beatOf(1, false, 2, 1)), false, mesh.Alive},
			{1 * s, "hello", admit(beatOf(1, false, 2, 1)), true, mesh.Joining},
			{1 * s, "gossip of the old life", beat(beatOf(1, true, 1, 6)), false, mesh.Joining},
			{2 * s, "its own", beat(beatOf(1, true, 2, 2)), true, mesh.Alive},
		},
		"a clock set back between two lives": {
			{0, "admit", admit(beatOf(1, true, 9, 5)), true, mesh.Alive},
			{1 * s, "hello of the new life", admit(beatOf(1, false, 3, 1)), true, mesh.Joining},
			{2 * s, "its heartbeats count", beat(beatOf(1, true, 3, 2)), true, mesh.Alive},
		},
		"gossip overtakes a hello": {
			{0, "admit", admit(beatOf(1, false, 1, 1)), true, mesh.Joining},
			{1 * s, "ready", beat(beatOf(1, true, 1, 3)), true, mesh.Alive},
			{1 * s, "a hello written before", admit(beatOf(1, false, 1, 2)), false, mesh.Alive},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := pureMembers()
			for _, st := range steps {
				if changed := st.event(m, st.at); changed != st.changed {
					t.Errorf("%v %s: reports a change: %v, want %v", st.at, st.what, changed, st.changed)
				}
				if got := m.by["a"].state; got != st.want {
					t.Errorf("%v %s: %s, want %s", st.at, st.what, got, st.want)
				}
			}
		})
	}
}

// A cut silences several members in one tick, and each is news: the log tells of it, and the
// mesh hangs up.
func TestMembersThatDieTogetherAreAllNews(t *testing.T) {
	m := pureMembers()
	for _, id := range []mesh.ID{"a", "b", "c"} {
		m.admit(id, beatOf(1, true, 1, 1), 0)
	}
	for _, at := range []time.Duration{m.suspectAfter, m.deadAfter} {
		m.news = nil
		if !m.tick(at) || len(m.news) != 3 {
			t.Errorf("after %v the news are %v, want one of each member", at, m.news)
		}
	}
}

func TestMembersUnknown(t *testing.T) {
	m := pureMembers()
	if _, outcome := m.heartbeat("a", beatOf(1, true, 1, 1), 0); outcome != beatUnreached || len(m.by) != 1 {
		t.Errorf("a stranger's heartbeat: outcome %d, %d members", outcome, len(m.by))
	}
	gone := beatOf(1, true, 1, 1)
	gone.Left = true
	if _, outcome := m.heartbeat("a", gone, 0); outcome != beatIgnored {
		t.Errorf("a stranger's goodbye: outcome %d", outcome)
	}
	if m.hear("a", 1) || m.refuse("a", 1) || m.goodbye("a", 1, 1) || len(m.by) != 1 {
		t.Error("an event of a stranger changed something")
	}
	if _, ok := m.admit("self", beatOf(1, true, 1, 1), 0); ok || m.hear("self", 1) || m.refuse("self", 1) || m.goodbye("self", 1, 1) {
		t.Error("an event of oneself changed something")
	}
}

func TestMembersForget(t *testing.T) {
	m := pureMembers()
	m.admit("a", beatOf(1, true, 1, 1), 0)
	m.goodbye("a", 1, time.Second)
	m.tick(61*time.Second - 1)
	if m.by["a"] == nil {
		t.Fatal("forgotten too early")
	}
	if !m.tick(61*time.Second) || m.by["a"] != nil {
		t.Error("not forgotten after a minute")
	}
	m.tick(time.Hour)
	if m.by["self"] == nil || m.self.state != mesh.Joining {
		t.Error("time changed this member itself")
	}
}

func TestMembersBounded(t *testing.T) {
	m := pureMembers()
	for i := range maxMembers + 10 {
		m.admit(mesh.ID(rune(i+1)), beatOf(i, true, 1, 1), 0)
	}
	if len(m.by) != maxMembers {
		t.Errorf("%d members, at most %d", len(m.by), maxMembers)
	}
}

func TestMembersView(t *testing.T) {
	m := pureMembers()
	m.announce(mesh.Status{Worker: 2, Ready: true})
	m.admit("c", beatOf(1, false, 1, 1), time.Second)
	m.admit("b", beatOf(1, true, 1, 1), 2*time.Second)
	var got []mesh.Member
	for _, v := range m.view(3 * time.Second) {
		got = append(got, mesh.Member{ID: v.ID, State: v.State, Silent: v.Silent})
	}
	want := []mesh.Member{{ID: "b", State: mesh.Alive, Silent: time.Second}, {ID: "c", Silent: 2 * time.Second}, {ID: "self", State: mesh.Alive}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("view %+v, want %+v", got, want)
	}
}

func TestMembersFree(t *testing.T) {
	m := pureMembers() // has 0 itself
	m.admit("a", beatOf(1, true, 1, 1), 0)
	m.admit("b", beatOf(2, true, 1, 1), 0)
	m.admit("c", beatOf(4, true, 1, 1), 0)
	if w := m.free(map[int]bool{0: true}); w != 3 {
		t.Errorf("the lowest free number is %d, want 3", w)
	}
	m.goodbye("a", 1, 0)
	if w := m.free(map[int]bool{0: true}); w != 1 {
		t.Errorf("after worker 1 left it is %d, want 1", w)
	}
	if h := m.holder(2, "b"); h != "" {
		t.Errorf("number 2 apart from b is held by %q", h)
	}
	if h := m.holder(2, "x"); h != "b" {
		t.Errorf("number 2 is held by %q, want b", h)
	}
}

func TestYields(t *testing.T) {
	fixed := claim{settled: true}
	ready := claim{settled: true, movable: true, ready: true}
	settled := claim{settled: true, movable: true}
	joining := claim{movable: true}
	for _, c := range []struct {
		name string
		a, b claim
		want mesh.ID
		ok   bool
	}{
		{"both given by hand", fixed, fixed, "", false},
		{"given by hand, ready", fixed, ready, "", false},
		{"the movable one", fixed, settled, "b", true},
		{"the movable one, larger or not", settled, fixed, "a", true},
		{"the one that joined last", joining, settled, "a", true},
		{"two that joined", settled, settled, "b", true},
		{"two that are joining", joining, joining, "b", true},
	} {
		a, b := c.a, c.b
		a.id, b.id = "a", "b"
		for _, order := range [][2]claim{{a, b}, {b, a}} {
			if got, ok := yields(order[0], order[1]); got != c.want || ok != c.ok {
				t.Errorf("%s: %q, %v, want %q, %v", c.name, got, ok, c.want, c.ok)
			}
		}
	}
}
