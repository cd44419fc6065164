package protosim

import (
	"slices"
	"testing"
	"time"
)

// oneSlow is five workers, of which number slow is four times slower than the others.
func oneSlow(slow int) Unequal {
	o := Unequal{Seed: 1, H: 20, Grace: 30 * time.Second, GraceMin: 5 * time.Second, Cycle: 1, Rounds: 150}
	for k := range 5 {
		o.Steps = append(o.Steps, 3*time.Second)
		if k == slow {
			o.Steps[k] *= 4
		}
	}
	return o
}

// unequalRun runs and checks that nothing that was trained is counted twice, or not at all.
func unequalRun(t *testing.T, o Unequal) []Share {
	t.Helper()
	shares, r := RunUnequal(o)
	if r.Err != nil {
		t.Fatalf("seed %d: %v", o.Seed, r.Err)
	}
	contributed := 0
	for k, s := range shares {
		contributed += s.Contributed
		t.Logf("worker %d: %4.1f %% of the time in inner steps that count, in the mean of %d of %d rounds with %d steps, %d lost, %d carried; sees %v late",
			k, 100*s.Compute, s.Rounds, r.Rounds, s.Contributed, s.Lost, s.Carried, s.Late)
	}
	if r.Rounds != o.Rounds || r.Tokens != float64(contributed) {
		t.Errorf("seed %d: the state of round %d has %v steps in it, the workers contributed %d", o.Seed, r.Rounds, r.Tokens, contributed)
	}
	return shares
}

// fastOnes checks that nobody but the slow worker loses time or steps.
func fastOnes(t *testing.T, o Unequal, shares []Share, slow int, compute float64) {
	t.Helper()
	for k, s := range shares {
		if k == slow {
			continue
		}
		if s.Compute < compute || s.Lost > 0 || s.Rounds != int(o.Rounds) {
			t.Errorf("worker %d: %.1f %% of the time in inner steps, want %.0f; %d steps lost, in %d rounds", k, 100*s.Compute, 100*compute, s.Lost, s.Rounds)
		}
	}
}

// One of five workers is four times slower, and all take the same number of steps in a
// round. It is named by all others, and costs them little; what it trains is lost.
func TestOneSlowWorkerDoesNotHoldUpTheOthers(t *testing.T) {
	for _, slow := range []int{4, 0, 2} {
		o := oneSlow(slow)
		shares := unequalRun(t, o)
		fastOnes(t, o, shares, slow, 0.90)
		for k, s := range shares {
			if want := k != slow; slices.Equal(s.Late, []int{slow}) != want {
				t.Errorf("worker %d sees %v late, and worker %d is", k, s.Late, slow)
			}
		}
		if s := shares[slow]; s.Contributed > 0 || s.Lost == 0 {
			t.Errorf("the slow worker contributed %d steps and lost %d", s.Contributed, s.Lost)
		}
	}
}

// Without what is learnt, the slow worker costs every round the whole grace period.
func TestWithoutLearningEveryRoundWaits(t *testing.T) {
	o := oneSlow(4)
	o.GraceMin = o.Grace
	for k, s := range unequalRun(t, o)[:4] {
		if s.Compute > 0.70 || len(s.Late) > 0 {
			t.Errorf("worker %d: %.1f %%, sees %v late", k, 100*s.Compute, s.Late)
		}
	}
}

// In a longer cycle the slow worker loses nothing: every fourth round has four rounds'
// steps of it, as many as of another worker.
func TestSlowWorkerContributesInALongerCycle(t *testing.T) {
	for _, slow := range []int{4, 0} {
		o := oneSlow(slow)
		o.Cycle = 4
		shares := unequalRun(t, o)
		fastOnes(t, o, shares, slow, 0.90)
		s := shares[slow]
		if s.Lost > 0 || s.Compute < 0.90 {
			t.Errorf("the slow worker: %.1f %% of the time counts, %d steps lost", 100*s.Compute, s.Lost)
		}
		if each := float64(s.Contributed) / float64(s.Rounds); s.Rounds < int(o.Rounds)/4-1 || s.Rounds > int(o.Rounds)/4+3 || each < 16 || each > 24 {
			t.Errorf("the slow worker is in the mean of %d of %d rounds, with %.1f steps each", s.Rounds, o.Rounds, each)
		}
	}
}

// With an inner time everybody is in every round, and weighs what it trained.
func TestInnerTimeMixesUnequalWorkers(t *testing.T) {
	o := oneSlow(4)
	o.H, o.InnerTime = 1000, time.Minute
	o.GraceMin = 10 * time.Second // a step of the slow one takes 12 s, and it is late by half of that at most
	for o.Seed = range uint64(10) {
		shares := unequalRun(t, o)
		for k, s := range shares {
			if s.Compute < 0.90 || len(s.Late) > 0 || s.Lost > 0 || s.Rounds < int(o.Rounds) {
				t.Errorf("seed %d: worker %d: %.1f %% of the time in inner steps, in %d rounds, %d steps lost, sees %v late", o.Seed, k, 100*s.Compute, s.Rounds, s.Lost, s.Late)
			}
		}
		fast, slow := float64(shares[0].Contributed)/float64(shares[0].Rounds), float64(shares[4].Contributed)/float64(shares[4].Rounds)
		if r := slow / fast; r < 0.23 || r > 0.27 {
			t.Errorf("seed %d: the slow worker weighs %.3f of a fast one, want a quarter", o.Seed, r)
		}
	}
}

// A worker that is slow no more is waited for again.
func TestSlowWorkerRecovers(t *testing.T) {
	for _, cycle := range []int{1, 4} {
		o := oneSlow(4)
		o.Cycle = cycle
		o.FastAgain = 60
		shares := unequalRun(t, o)
		fastOnes(t, o, shares, 4, 0.90)
		for k, s := range shares {
			if len(s.Late) > 0 {
				t.Errorf("cycle %d: worker %d still sees %v late", cycle, k, s.Late)
			}
		}
		if got := shares[4].Rounds; got < 70 {
			t.Errorf("cycle %d: in the mean of %d rounds, though it is fast for 90", cycle, got)
		}
	}
}

// Workers whose steps vary by a tenth are all waited for.
func TestNobodyIsLateAmongEquals(t *testing.T) {
	for seed := range uint64(20) {
		o := oneSlow(-1)
		o.Seed, o.Rounds = seed, 50
		shares := unequalRun(t, o)
		fastOnes(t, o, shares, -1, 0.90)
		for k, s := range shares {
			if len(s.Late) > 0 {
				t.Errorf("seed %d: worker %d sees %v late", seed, k, s.Late)
			}
		}
	}
}
