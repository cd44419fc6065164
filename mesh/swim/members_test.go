package swim

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"loco/mesh"
)

func pureMembers() *Members {
	return New(Config{
		Heartbeat: time.Second, ProbeEvery: time.Hour, SuspectMin: time.Second, SuspectAfter: 4 * time.Second,
		DeadMin: 5 * time.Second, DeadAfter: 15 * time.Second, DeadAfterRefused: time.Second, Forget: time.Minute,
	}, "self", Heartbeat{Incarnation: Incarnation{Life: 1}})
}

func beatOf(worker int, ready bool, life, seq uint64) Heartbeat {
	return Heartbeat{Status: mesh.Status{Worker: worker, Ready: ready}, Incarnation: Incarnation{Life: life}, Seq: seq}
}

// step is one event of a member "a" and the state that must follow.
type step struct {
	at      time.Duration
	what    string
	event   func(m *Members, now time.Duration)
	changed bool // the output says so
	want    mesh.State
}

func admit(beat Heartbeat) func(*Members, time.Duration) {
	return func(m *Members, now time.Duration) { m.Admit("a", beat, now) }
}

func beat(b Heartbeat) func(*Members, time.Duration) {
	return func(m *Members, now time.Duration) { m.Heartbeat("a", b, now) }
}

func hear(m *Members, now time.Duration)   { m.Hear("a", now) }
func refuse(m *Members, now time.Duration) { m.Refuse("a", now) }
func tick(m *Members, now time.Duration)   { m.Tick(now) }

func bye(life uint64) func(*Members, time.Duration) {
	return func(m *Members, now time.Duration) { m.Goodbye("a", life, now) }
}

// rumor is what member "b", which is there since 0, says of "a".
func rumor(say Say, life uint64, refuted uint32) func(*Members, time.Duration) {
	return func(m *Members, now time.Duration) {
		g := Message{Kind: Ping, Incarnation: Incarnation{Life: 1}, Rumors: []Rumor{{say, "a", Incarnation{life, refuted}}}}
		m.Receive("b", g, now)
	}
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
		"accused and refuted": {
			{0, "admit", admit(beatOf(1, true, 1, 1)), true, mesh.Alive},
			{3601 * s, "no tick for long: the gap is forgiven", tick, false, mesh.Alive},
			{3603 * s, "called suspect, heard within the period", rumor(SaySuspect, 1, 0), false, mesh.Alive},
			{3603 * s, "called dead, the same", rumor(SayDead, 1, 0), false, mesh.Alive},
			{3604 * s, "refuted", rumor(SayAlive, 1, 1), false, mesh.Alive},
			{3605 * s, "an old accusation", rumor(SayDead, 1, 0), false, mesh.Alive},
		},
		"called dead when not heard for long": {
			{0, "admit", admit(beatOf(1, true, 1, 1)), true, mesh.Alive},
			{3600 * s, "called dead in another life", rumor(SayDead, 2, 0), false, mesh.Alive},
			{3600 * s, "called suspect", rumor(SaySuspect, 1, 0), true, mesh.Suspect},
			{3600 * s, "refuted", rumor(SayAlive, 1, 1), true, mesh.Alive},
			{7200 * s, "called dead", rumor(SayDead, 1, 1), true, mesh.Dead},
			{7201 * s, "refuted, but not reached", rumor(SayAlive, 1, 2), false, mesh.Dead},
			{7202 * s, "reached by a hello that was written before", admit(beatOf(1, true, 1, 9)), true, mesh.Alive},
			{7202 * s, "an accusation that it refuted", rumor(SayDead, 1, 1), false, mesh.Alive},
			{7203 * s, "left, others say", rumor(SayLeft, 1, 2), true, mesh.Left},
		},
		"gossip overtakes a hello": {
			{0, "admit", admit(beatOf(1, false, 1, 1)), true, mesh.Joining},
			{1 * s, "ready", beat(beatOf(1, true, 1, 3)), true, mesh.Alive},
			{1 * s, "a hello written before", admit(beatOf(1, false, 1, 2)), false, mesh.Alive},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := pureMembers()
			m.Admit("b", beatOf(7, true, 1, 1), 0)
			m.Take()
			for _, st := range steps {
				st.event(m, st.at)
				m.by["b"].heard = st.at // only "a" is watched
				if out := m.Take(); out.Changed != st.changed {
					t.Errorf("%v %s: reports a change: %v, want %v", st.at, st.what, out.Changed, st.changed)
				}
				if got := m.by["a"].state; got != st.want {
					t.Errorf("%v %s: %s, want %s", st.at, st.what, got, st.want)
				}
			}
		})
	}
}

func TestMembersUnknown(t *testing.T) {
	m := pureMembers()
	if outcome := m.Heartbeat("a", beatOf(1, true, 1, 1), 0); outcome != Unreached || len(m.by) != 1 {
		t.Errorf("a stranger's heartbeat: outcome %d, %d members", outcome, len(m.by))
	}
	gone := beatOf(1, true, 1, 1)
	gone.Left = true
	if outcome := m.Heartbeat("a", gone, 0); outcome != Ignored {
		t.Errorf("a stranger's goodbye: outcome %d", outcome)
	}
	for _, id := range []mesh.ID{"a", "self"} {
		m.Hear(id, 1)
		m.Refuse(id, 1)
		m.Goodbye(id, 1, 1)
		m.Receive(id, Message{Kind: Ping}, 1)
	}
	rumor(SayDead, 1, 0)(m, 1)
	if out := m.Take(); m.Admit("self", beatOf(1, true, 1, 1), 0) || len(m.by) != 1 || out.Changed || len(out.Send) > 0 || m.self.state != mesh.Joining {
		t.Errorf("events of strangers and of oneself: %+v", out)
	}
}

func TestMembersForget(t *testing.T) {
	m := pureMembers()
	m.Admit("a", beatOf(1, true, 1, 1), 0)
	m.Goodbye("a", 1, time.Second)
	m.Tick(61*time.Second - 1)
	if m.by["a"] == nil {
		t.Fatal("forgotten too early")
	}
	m.Take()
	m.Tick(61 * time.Second)
	if out := m.Take(); !out.Changed || m.by["a"] != nil || len(m.all) != 1 {
		t.Error("not forgotten after a minute")
	}
	m.Tick(time.Hour)
	if m.by["self"] == nil || m.self.state != mesh.Joining {
		t.Error("time changed this member itself")
	}
}

func TestMembersBounded(t *testing.T) {
	m := pureMembers()
	for i := range maxMembers + 10 {
		m.Admit(mesh.ID(rune(i+1)), beatOf(i, true, 1, 1), 0)
	}
	if len(m.by) != maxMembers || len(m.all) != maxMembers || len(m.order) > maxMembers {
		t.Errorf("%d members, %d in order, at most %d", len(m.by), len(m.order), maxMembers)
	}
	if m.Admit("late", beatOf(1, true, 1, 1), 1) {
		t.Error("one too many is taken in")
	}
	m.Goodbye(mesh.ID(rune(9)), 1, 2)
	m.Goodbye(mesh.ID(rune(8)), 1, 1)
	if !m.Admit("late", beatOf(1, true, 1, 1), 3) || m.by[mesh.ID(rune(8))] != nil || m.by[mesh.ID(rune(9))] == nil || len(m.all) != maxMembers {
		t.Error("the one that is gone for longest did not make room")
	}
}

func TestMembersView(t *testing.T) {
	m := pureMembers()
	m.Announce(mesh.Status{Worker: 2, Ready: true})
	m.Admit("c", beatOf(1, false, 1, 1), time.Second)
	m.Admit("b", beatOf(1, true, 1, 1), 2*time.Second)
	var got []mesh.Member
	for _, v := range m.View(3 * time.Second) {
		got = append(got, mesh.Member{ID: v.ID, State: v.State, Silent: v.Silent})
	}
	want := []mesh.Member{{ID: "b", State: mesh.Alive, Silent: time.Second}, {ID: "c", Silent: 2 * time.Second}, {ID: "self", State: mesh.Alive}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("view %+v, want %+v", got, want)
	}
}

// What a view shows of a member is a change where somebody may wait for it: its place in
// the run and its progress through it, not its counters.
func TestMembersChange(t *testing.T) {
	base := mesh.Status{Worker: 1, Lane: 2, Ready: true, Begun: true, Round: 5, Step: 6, Tokens: 7}
	for name, c := range map[string]struct {
		edit func(s *mesh.Status)
		want bool
	}{
		"nothing": {func(*mesh.Status) {}, false},
		"worker":  {func(s *mesh.Status) { s.Worker = 3 }, true},
		"lane":    {func(s *mesh.Status) { s.Lane = 0 }, true},
		"ready":   {func(s *mesh.Status) { s.Ready = false }, true},
		"begun":   {func(s *mesh.Status) { s.Begun = false }, true},
		"done":    {func(s *mesh.Status) { s.Done = true }, true},
		"round":   {func(s *mesh.Status) { s.Round++ }, false},
		"step":    {func(s *mesh.Status) { s.Step++ }, false},
		"tokens":  {func(s *mesh.Status) { s.Tokens++ }, false},
	} {
		m := pureMembers()
		first, next := beatOf(1, true, 1, 1), beatOf(1, true, 1, 2)
		first.Status, next.Status = base, base
		c.edit(&next.Status)
		m.Admit("a", first, 0)
		m.Take()
		m.Heartbeat("a", next, time.Second)
		if out := m.Take(); out.Changed != c.want {
			t.Errorf("%s: reports a change: %v, want %v", name, out.Changed, c.want)
		}
		m.Announce(base)
		m.Take()
		m.Announce(next.Status)
		if out := m.Take(); out.Changed != c.want {
			t.Errorf("%s of this member itself: reports a change: %v, want %v", name, out.Changed, c.want)
		}
	}
}

func TestMembersHolder(t *testing.T) {
	m := pureMembers() // has 0 itself
	m.Admit("a", beatOf(1, true, 1, 1), 0)
	m.Admit("c", beatOf(2, true, 1, 1), 0)
	m.Admit("b", beatOf(2, true, 1, 1), 0) // as after a partition
	m.Goodbye("a", 1, 0)
	for _, c := range []struct {
		worker int
		except mesh.ID
		want   mesh.ID
	}{{0, "x", "self"}, {0, "self", ""}, {1, "x", ""}, {2, "b", "c"}, {2, "x", "b"}, {3, "x", ""}} {
		if h := m.Holder(c.worker, c.except); h != c.want {
			t.Errorf("number %d apart from %s is held by %q, want %q", c.worker, c.except, h, c.want)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	for _, c := range []Config{wide(), near()} {
		if err := c.Validate(); err != nil {
			t.Errorf("a good configuration: %v", err)
		}
	}
	for want, change := range map[string]func(*Config){
		"forget of 0s: must be positive":          func(c *Config) { c.Forget = 0 },
		"probe every of 0s: must be positive":     func(c *Config) { c.ProbeEvery = 0 },
		"each must be longer than the one before": func(c *Config) { c.SuspectAfter = c.Heartbeat },
		"a floor is above its cap":                func(c *Config) { c.DeadMin = c.DeadAfter + 1 },
	} {
		c := near()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}
