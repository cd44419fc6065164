package swim

import (
	"slices"
	"testing"
	"time"

	"loco/mesh"
)

const s = time.Second

// probing is a member that knows a to e.
func probing(change func(*Config)) *Members {
	c := near()
	change(&c)
	m := New(c, "self", Heartbeat{Incarnation: Incarnation{Life: 1}})
	for _, id := range []mesh.ID{"a", "b", "c", "d", "e"} {
		m.Admit(id, beatOf(1, true, 1, 1), 0)
	}
	m.Take()
	return m
}

// sent runs ticks until the machine sends something of a kind.
func sent(t *testing.T, m *Members, kind Kind, now *time.Duration) []Envelope {
	t.Helper()
	for range 1000 {
		*now += s / 20
		m.Tick(*now)
		out := m.Take().Send
		if out = slices.DeleteFunc(out, func(e Envelope) bool { return e.Message.Kind != kind }); len(out) > 0 {
			return out
		}
	}
	t.Fatalf("no message of kind %d in %v", kind, *now)
	return nil
}

func answer(m *Members, e Envelope, now time.Duration) {
	m.Receive(e.To, Message{Kind: Ack, Number: e.Message.Number, Incarnation: Incarnation{Life: 1}}, now)
}

// Reference: SWIM section 4.3: within a turn everybody is probed once.
func TestProbesInTurn(t *testing.T) {
	m := probing(func(*Config) {})
	var now time.Duration
	for range 3 {
		turn := map[mesh.ID]int{}
		for range 5 {
			ping := sent(t, m, Ping, &now)
			if len(ping) != 1 {
				t.Fatalf("%d pings in a period, want 1", len(ping))
			}
			turn[ping[0].To]++
			answer(m, ping[0], now)
		}
		if len(turn) != 5 {
			t.Errorf("%d of 5 members in a turn: %v", len(turn), turn)
		}
	}
	if c := m.Counts(); c.Suspicions > 0 {
		t.Errorf("%d suspicions although all answer", c.Suspicions)
	}
}

// Reference: SWIM sections 3.1 and 4.2: an ack by way of others saves from suspicion; without
// one it is suspect, told to others, and dead in the end.
func TestProbeThroughOthers(t *testing.T) {
	for _, vouched := range []bool{true, false} {
		m := probing(func(c *Config) { c.SuspectMin = s })
		now := 3 * s
		m.Tick(now) // after a pause: all count as heard now
		m.Take()
		now += s
		ping := sent(t, m, Ping, &now)[0]
		for _, id := range []mesh.ID{"a", "b", "c", "d", "e"} {
			if id != ping.To {
				m.Hear(id, now+time.Hour) // these are never in question
			}
		}
		asks := sent(t, m, Ask, &now)
		helpers := map[mesh.ID]bool{}
		for _, e := range asks {
			helpers[e.To] = true
			if e.Message.Target != ping.To || e.To == ping.To || e.Message.Number != ping.Message.Number {
				t.Errorf("%+v helps with %+v", e, ping)
			}
		}
		if len(helpers) != 3 {
			t.Errorf("%d helpers, want 3", len(helpers))
		}
		if vouched {
			m.Receive(asks[0].To, Message{Kind: Vouched, Number: ping.Message.Number, Incarnation: Incarnation{Life: 1}}, now)
		}
		for range 14 { // until the probe is over, and the next is not
			now += s / 20
			m.Tick(now)
		}
		k, _ := m.Find(ping.To)
		if suspect := k.State == mesh.Suspect; suspect == vouched {
			t.Errorf("vouched for: %v, and it is %s", vouched, k.State)
		}
		told := slices.ContainsFunc(m.rumors, func(r told) bool { return r.Say == SaySuspect && r.Of == ping.To })
		if told == vouched {
			t.Errorf("vouched for: %v, and told: %v", vouched, told)
		}
	}
}

// A member that is asked to ping another passes the ack on.
func TestHelps(t *testing.T) {
	m := probing(func(*Config) {})
	m.Receive("a", Message{Kind: Ask, Number: 77, Target: "b", Incarnation: Incarnation{Life: 1}}, s/2)
	out := m.Take().Send
	if len(out) != 1 || out[0].To != "b" || out[0].Message.Kind != Ping {
		t.Fatalf("asked to ping b, it sends %+v", out)
	}
	answer(m, out[0], s/2)
	if out = m.Take().Send; len(out) != 1 || out[0].To != "a" || out[0].Message.Kind != Vouched || out[0].Message.Number != 77 {
		t.Errorf("after the ack it sends %+v", out)
	}
	for i := range relaysMax + 10 {
		m.Receive("a", Message{Kind: Ask, Number: uint64(i), Target: "b", Incarnation: Incarnation{Life: 1}}, s/2)
	}
	if len(m.relays) != relaysMax {
		t.Errorf("%d relays, at most %d", len(m.relays), relaysMax)
	}
}

// A member learns with the next message what is said of it, and refutes it once.
func TestRefutation(t *testing.T) {
	m := probing(func(*Config) {})
	for range 2 {
		m.Receive("a", Message{Kind: Ping, Incarnation: Incarnation{Life: 1}, Rumors: []Rumor{{SayDead, "self", Incarnation{1, 0}}}}, s)
	}
	out := m.Take()
	if !out.Publish || m.Self().Incarnation != (Incarnation{1, 1}) || m.Counts().Refutations != 1 {
		t.Errorf("incarnation %+v, %d refutations, publish %v", m.Self().Incarnation, m.Counts().Refutations, out.Publish)
	}
	if ack := out.Send[0].Message; len(ack.Rumors) != 1 || ack.Rumors[0] != (Rumor{SayAlive, "self", Incarnation{1, 1}}) || ack.Incarnation != (Incarnation{1, 1}) {
		t.Errorf("the ack says %+v", ack)
	}
	m.Receive("b", Message{Kind: Ping, Incarnation: Incarnation{Life: 1}, Rumors: []Rumor{{SaySuspect, "a", Incarnation{1, 0}}}}, 5*s)
	m.Receive("a", Message{Kind: Ping, Number: 3, Incarnation: Incarnation{Life: 1}}, 6*s)
	acks := slices.DeleteFunc(m.Take().Send, func(e Envelope) bool { return e.To != "a" })
	if len(acks) != 1 || !slices.Contains(acks[0].Message.Rumors, Rumor{SaySuspect, "a", Incarnation{1, 0}}) {
		t.Errorf("the accused is told %+v", acks)
	}
}

// Deadlines follow what was observed, between floor and cap.
func TestDeadlinesAdapt(t *testing.T) {
	for _, c := range []struct {
		name     string
		beats    []time.Duration // intervals
		trips    []time.Duration
		silence  time.Duration
		patience time.Duration
		trip     time.Duration
	}{
		{"nothing known", nil, nil, 12 * s, 15 * s, s / 2},
		{"regular", []time.Duration{3 * s, 3 * s, 3 * s, 3 * s}, []time.Duration{s / 5, s / 5, s / 5}, 4500 * time.Millisecond, 7500 * time.Millisecond, 300 * time.Millisecond},
		{"with jitter", []time.Duration{3 * s, 2 * s, 4 * s, 3 * s, 5 * s}, []time.Duration{s / 5, s / 4, s / 20 * 3, s / 10 * 3, s / 10}, 7 * s, 10 * s, 400 * time.Millisecond},
		{"faster than its heartbeats", []time.Duration{s / 100, s / 100, s / 100, s / 50}, []time.Duration{s / 1000, s / 1000, s / 1000}, 4500 * time.Millisecond, 7500 * time.Millisecond, s / 10},
		{"wild", []time.Duration{3 * s, 30 * s, 60 * s, 3 * s, 50 * s}, []time.Duration{s, 3 * s, 9 * s}, 12 * s, 15 * s, s / 2},
	} {
		m := probing(func(*Config) {})
		r := m.by["a"]
		var now time.Duration
		m.Heartbeat("a", beatOf(1, true, 1, 2), now)
		for i, d := range c.beats {
			now += d
			m.Heartbeat("a", beatOf(1, true, 1, uint64(3+i)), now)
		}
		r.trips = new(window)
		for _, d := range c.trips {
			r.trips.add(d)
		}
		near := func(name string, got, want time.Duration) {
			if d := got - want; d < -5*time.Millisecond || d > 5*time.Millisecond {
				t.Errorf("%s: %s %v, want %v", c.name, name, got, want)
			}
		}
		near("silence", m.silence(r), c.silence)
		near("patience", m.patience(r), c.patience)
		near("round trip", m.trip(r), c.trip)
	}
}
