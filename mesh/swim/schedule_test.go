package swim

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"
)

// wide are the times of the presets for machines far apart.
func wide() Config {
	return Config{
		Heartbeat: 15 * time.Second, ProbeEvery: 5 * time.Second,
		SuspectMin: 10 * time.Second, SuspectAfter: time.Minute, DeadMin: time.Minute, DeadAfter: 3 * time.Minute,
		DeadAfterRefused: 10 * time.Second, Forget: time.Hour,
	}
}

// near are shorter times, so that a schedule of a small world is short.
func near() Config {
	return Config{
		Heartbeat: 3 * time.Second, ProbeEvery: time.Second,
		SuspectMin: 2 * time.Second, SuspectAfter: 12 * time.Second, DeadMin: 6 * time.Second, DeadAfter: 40 * time.Second,
		DeadAfterRefused: time.Second, Forget: time.Hour,
	}
}

// random is a small world with faults that follow from the seed.
func randomPlan(seed uint64) plan {
	rng := rand.New(rand.NewPCG(seed, 2))
	n := 12 + rng.IntN(12)
	p := plan{seed: seed, nodes: n, cfg: near(), loss: 0.05, settle: 60 * time.Second, tick: 50 * time.Millisecond}
	at := func() time.Duration { return 10*time.Second + time.Duration(rng.Int64N(int64(60*time.Second))) }
	long := func() time.Duration { return 5*time.Second + time.Duration(rng.Int64N(int64(40*time.Second))) }
	who := rng.Perm(n)
	next := func() int { i := who[0]; who = who[1:]; return i }
	stays := next() // bootstrap of the joiners
	if seed%4 == 1 {
		p.noGossip = true // probes and rumors are all there is
		p.cfg.DeadAfter = 200 * time.Second
	}
	if seed%8 < 2 {
		p.end = 120 * time.Second // calm
		return p
	}
	for range rng.IntN(3) {
		if p.noGossip {
			break // nobody would hear of two that join at a time
		}
		p.joins = append(p.joins, fault{at: at() / 2, a: next(), b: stays})
	}
	for range rng.IntN(3) {
		p.crashes = append(p.crashes, fault{at: at(), a: next()})
	}
	if rng.IntN(2) == 0 {
		p.leaves = append(p.leaves, fault{at: at(), a: next()})
	}
	for range rng.IntN(3) {
		t := at()
		p.pauses = append(p.pauses, fault{at: t, until: t + long(), a: next()})
	}
	switch rng.IntN(3) {
	case 0:
		t := at()
		p.splits = append(p.splits, fault{at: t, until: t + long(), a: 1 + rng.IntN(n-1)})
	case 1:
		t := at()
		a, b := next(), next()
		p.cuts = append(p.cuts, fault{at: t, until: t + 60*time.Second, a: a, b: b})
	}
	for _, list := range [][]fault{p.joins, p.crashes, p.leaves, p.pauses, p.splits, p.cuts} {
		for _, f := range list {
			p.end = max(p.end, f.at, f.until)
		}
	}
	p.end += p.settle
	if len(p.splits)+len(p.pauses)+len(p.cuts) == 0 {
		p.deadWithin = 30 * time.Second
	}
	return p
}

// slowed says that the race detector is on: there is no goroutine to watch here.
var slowed bool

func TestRandomSchedules(t *testing.T) {
	schedules := uint64(250)
	if testing.Short() || slowed {
		schedules = 60
	}
	for seed := uint64(1); seed <= schedules; seed++ {
		if _, err := run(randomPlan(seed)); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// A member that falls silent is dead for nobody before Config.Detection, counted from the last
// that was heard of it, which is a heartbeat or a probe earlier than its end; and not much later
// for the first of them, or the bound is worth little.
func TestDetection(t *testing.T) {
	for name, cfg := range map[string]Config{"near": near(), "wide": wide()} {
		soonest := time.Duration(1 << 60)
		for seed := uint64(1); seed <= 40; seed++ {
			p := plan{seed: seed, nodes: 3 + int(seed%4), cfg: cfg, tick: cfg.ProbeEvery / 20, end: 20*cfg.ProbeEvery + 2*cfg.DeadAfter}
			p.crashes = []fault{{at: 20*cfg.ProbeEvery + time.Duration(seed)*cfg.ProbeEvery/40, a: 0}}
			r, err := run(p)
			if err != nil {
				t.Errorf("%s, seed %d: %v", name, seed, err)
			}
			soonest = min(soonest, r.deadFirst)
		}
		before := max(cfg.Heartbeat, cfg.ProbeEvery)
		if least := cfg.Detection(); soonest < least-before || soonest > least+4*cfg.ProbeEvery {
			t.Errorf("%s: the first death is seen after %v, want %v, less %v at most", name, soonest, least, before)
		}
		t.Logf("%s: the first death is seen after %v, the bound is %v", name, soonest, cfg.Detection())
	}
}

func TestSameSeedSameRun(t *testing.T) {
	a, errA := run(randomPlan(7))
	b, errB := run(randomPlan(7))
	if a != b || errA != errB && errA.Error() != errB.Error() {
		t.Errorf("two runs of a seed differ: %+v, %v and %+v, %v", a, errA, b, errB)
	}
}

// What a run of many costs grows with the square of their number: a thousand take over a CPU minute.
var many = flag.Int("members", 250, "members of TestMany; docs/protocol.md has the figures of 1000")

// TestMany is the run of docs/protocol.md: many members, of whom 5 % crash, 2 % stand still for a
// minute, 1 % leave, 5 % join, and 30 % are cut off for 150 s.
func TestMany(t *testing.T) {
	n := *many
	if testing.Short() || slowed {
		n = min(n, 200)
	}
	for part, name := range []string{"calm", "crashes and joins", "pauses and a partition"} {
		t.Run(name, func(t *testing.T) {
			p := manyPlan(n, uint64(part))
			began := time.Now()
			r, err := run(p)
			if err != nil {
				t.Errorf("seed %d: %v", p.seed, err)
			}
			t.Logf("%d members, %v: %+v", n, p.end, r)
			t.Logf("life and death %.0f B/s sent by each, hellos %.0f, heartbeats %.0f; %v",
				float64(r.bytes)/r.memberSeconds, float64(r.hellos)/r.memberSeconds,
				heartbeatBytes*float64(n)/p.cfg.Heartbeat.Seconds(), time.Since(began))
		})
	}
}

func manyPlan(n int, part uint64) plan {
	p := plan{seed: part, nodes: n, cfg: wide(), loss: 0.05, settle: 150 * time.Second, tick: 2500 * time.Millisecond}
	rng := rand.New(rand.NewPCG(part, 3))
	who := rng.Perm(n)
	take := func(part float64, f func(a int)) {
		for range int(part * float64(n)) {
			f(who[0])
			who = who[1:]
		}
	}
	const s = time.Second
	switch part {
	case 0:
		p.end, p.settle = 45*s, 45*s
		return p
	case 1:
		take(0.05, func(a int) { p.crashes = append(p.crashes, fault{at: 75 * s, a: a}) }) // heartbeats have shown what is usual
		take(0.01, func(a int) { p.leaves = append(p.leaves, fault{at: 75 * s, a: a}) })
		take(0.05, func(a int) {
			p.joins = append(p.joins, fault{at: 5*s + time.Duration(rng.Int64N(int64(20*s))), a: a, b: who[len(who)-1]})
		})
		p.end = 75*s + p.settle
		return p
	}
	take(0.02, func(a int) { p.pauses = append(p.pauses, fault{at: 30 * s, until: 90 * s, a: a}) })
	p.splits = []fault{{at: 45 * s, until: 195 * s, a: n * 3 / 10}}
	p.settle = 100 * s
	p.end = 195*s + p.settle
	return p
}

// coldStart is members that come one after another within a minute, all through the first. Each
// knows all others, and is known to them, within 10 heartbeats of the last.
func coldStart(n int) plan {
	p := plan{seed: 3, nodes: n, cfg: wide(), loss: 0.05, settle: 150 * time.Second, tick: 2500 * time.Millisecond}
	for i := 1; i < n; i++ {
		p.joins = append(p.joins, fault{at: time.Duration(i) * time.Minute / time.Duration(n), a: i, b: 0})
	}
	p.end = time.Minute + p.settle
	return p
}

// TestColdStart has members that each say hello to each.
func TestColdStart(t *testing.T) {
	n := 300
	if testing.Short() || slowed {
		n = 100
	}
	p := coldStart(n)
	began := time.Now()
	r, err := run(p)
	if limit := 10 * p.cfg.Heartbeat; err != nil || r.rightAfter > limit {
		t.Errorf("all views are right %v after the last join, want %v: %v", r.rightAfter, limit, err)
	}
	t.Logf("%d members: all views right %v after the last join; hellos %.0f B/s sent by each; %v", n, r.rightAfter, float64(r.hellos)/r.memberSeconds, time.Since(began))
}

// On one network a member that falls silent, with nobody to refuse for it, is suspect
// for all within three periods and dead within ten seconds. Members that are 20 to 200 ms away, with
// that jitter, are never suspect.
func TestNearAndFar(t *testing.T) {
	tiny := Config{
		Heartbeat: time.Second, ProbeEvery: time.Second, SuspectMin: 2 * time.Second, SuspectAfter: 5 * time.Second,
		DeadMin: 5 * time.Second, DeadAfter: 15 * time.Second, DeadAfterRefused: time.Second, Forget: time.Hour,
	}
	for seed := range uint64(20) {
		p := plan{seed: seed, nodes: 4, cfg: tiny, end: 60 * time.Second, settle: 30 * time.Second, tick: 100 * time.Millisecond}
		p.crashes = []fault{{at: 30 * time.Second, a: int(seed % 4)}}
		if r, err := run(p); err != nil || r.suspectAll > 3*time.Second || r.deadAll > 10*time.Second || r.falseSuspect > 0 {
			t.Errorf("seed %d: near: suspect after %v, dead after %v, %d others suspect, %v", seed, r.suspectAll, r.deadAll, r.falseSuspect, err)
		} else if seed == 0 {
			t.Logf("near: suspect for all after %v, dead after %v", r.suspectAll, r.deadAll)
		}
		p = plan{seed: seed, nodes: 8, cfg: wide(), end: 10 * time.Minute, settle: time.Minute, tick: 500 * time.Millisecond}
		if r, err := run(p); err != nil || r.falseSuspect > 0 || r.suspicions > 0 {
			t.Errorf("seed %d: far: %d suspect, %v", seed, r.falseSuspect, err)
		}
		p.crashes = []fault{{at: 5 * time.Minute, a: int(seed % 8)}}
		if r, err := run(p); err != nil || r.suspectAll > 45*time.Second || r.deadAll > 2*time.Minute {
			t.Errorf("seed %d: far: suspect after %v, dead after %v, %v", seed, r.suspectAll, r.deadAll, err)
		} else if seed == 0 {
			t.Logf("far: suspect for all after %v, dead after %v", r.suspectAll, r.deadAll)
		}
	}
}
