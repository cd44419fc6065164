package protocol

import (
	"testing"
	"time"

	"loco/mesh"
)

// Who is dead by an old view and says that it has committed this round is asked for its
// bytes: a group of one would fork the run.
func TestCommitOfAPeerCalledDeadCounts(t *testing.T) {
	k := newClocked(t, 2, RoundsConfig{Detection: 4 * time.Second})
	k.m.View(k.now, []mesh.Member{{ID: "w0"}, {ID: "w1", State: mesh.Dead, Status: mesh.Status{Worker: 1, Ready: true}}})
	k.now = k.now.Add(time.Minute)
	k.m.Start(k.now, 3, Start{Digest: [32]byte{1}, Tokens: 3, Weight: 1, Length: 256})
	k.m.Receive(k.now, "w1", Envelope{Round: 3, Attempt: 9, Worker: 1},
		commit{hash: [32]byte{7}, digest: [32]byte{1}, length: 256, base: 3, tokens: 1, workers: []int{1}})
	if a := k.m.attempt; a == nil || !a.fetch || a.source != "w1" {
		t.Errorf("the worker is in attempt %+v, want a fetch from w1", a)
	}
}

// silentUntil lets two workers' round begin at one whose view calls the other dead, has it
// hear something, or nothing, and returns after how long it goes on alone, and whether it has
// told the other before where it stands.
func silentUntil(t *testing.T, state mesh.State, says Message) (alone time.Duration, told bool) {
	t.Helper()
	k := newClocked(t, 2, RoundsConfig{Detection: 4 * time.Second})
	lost := func(s mesh.State) []mesh.Member {
		return []mesh.Member{
			{ID: "w0", State: mesh.Alive, Status: mesh.Status{Ready: true}},
			{ID: "w1", State: s, Status: mesh.Status{Worker: 1, Ready: true}},
		}
	}
	k.m.View(k.now, lost(state))
	k.now = k.now.Add(time.Minute) // it stands still, and believes nothing for a grace period
	began := k.now
	k.m.Start(k.now, 3, Start{Digest: [32]byte{1}, Tokens: 3, Weight: 1, Length: 256})
	k.m.Take()
	if says != nil {
		k.m.Receive(k.now, "w1", Envelope{Round: 3, Attempt: 9, Worker: 1}, says)
	}
	for k.m.attempt == nil && k.now.Sub(began) < 5*time.Minute {
		k.now = k.now.Add(time.Second)
		k.m.View(k.now, lost(state)) // the same as ever
		k.m.Tick(k.now)
		for _, a := range k.m.Take() {
			told = told || a.Send != nil && a.Send.To == "w1"
		}
	}
	if a := k.m.attempt; a == nil || !a.fetch && len(a.group.members) > 1 {
		t.Fatalf("state %v, %T: no group of one in 5 minutes: %+v", state, says, a)
	}
	return k.now.Sub(began), told
}

// Who speaks is not gone, whatever an old view says: it is told where this worker stands, and
// waited for until it has been silent for 2 Grace. Who has left is gone.
func TestPeerThatSpeaksIsNotGone(t *testing.T) {
	const grace = 30 * time.Second
	for _, c := range []struct {
		name  string
		state mesh.State
		says  Message
		alone time.Duration
	}{
		{"silent", mesh.Dead, nil, grace},
		{"another word", mesh.Dead, want{}, 2 * grace},
		{"left", mesh.Left, want{}, grace},
	} {
		alone, told := silentUntil(t, c.state, c.says)
		if alone < c.alone || alone > c.alone+2*time.Second {
			t.Errorf("%s: alone after %v, want %v", c.name, alone, c.alone)
		}
		if told != (c.state == mesh.Dead) {
			t.Errorf("%s: it is told where this worker stands: %v", c.name, told)
		}
	}
}

// A coordinator that stood still may find a Done in its queue that is older than what its
// sender has decided since. It asks the group again, takes over what was decided, and commits
// only when nobody has said anything for Grace.
func TestACoordinatorThatStoodStillAsksBeforeItCommits(t *testing.T) {
	for _, decided := range []bool{false, true} {
		k := newClocked(t, 2, RoundsConfig{Detection: 4 * time.Second})
		digest, env := [32]byte{1}, Envelope{Round: 3, Worker: 1}
		k.tick(time.Minute)
		k.m.Start(k.now, 3, Start{Digest: digest, Tokens: 3, Weight: 1, Length: 256})
		k.m.Receive(k.now, "w1", env, ready{digest: digest, tokens: 3, weight: 1, length: 256})
		number := k.m.attempt.number
		k.m.Complete(k.now, number, [32]byte{7})
		k.m.Take()
		k.now = k.now.Add(time.Minute)
		env.Attempt = number
		k.m.Receive(k.now, "w1", env, done{[32]byte{7}})
		asked := false
		for _, a := range k.m.Take() {
			if a.Finish != nil {
				t.Fatal("it commits by a Done from before it stood still")
			}
			if a.Send != nil && a.Send.To == "w1" {
				_, group := a.Send.Msg.(group)
				asked = asked || group
			}
		}
		if !asked {
			t.Error("its group is not asked again")
		}
		if decided {
			env.Attempt = 9
			k.m.Receive(k.now, "w1", env, commit{hash: [32]byte{8}, digest: digest, length: 256, base: 3, tokens: 1, workers: []int{1}})
			if a := k.m.attempt; a == nil || !a.fetch || a.source != "w1" {
				t.Errorf("the worker is in attempt %+v, want a fetch of what w1 has decided", a)
			}
			continue
		}
		began, finished := k.now, time.Duration(-1)
		for finished < 0 && k.now.Sub(began) < time.Minute {
			k.tick(time.Second)
			for _, a := range k.m.Take() {
				if a.Finish != nil && a.Finish.Result != nil {
					finished = k.now.Sub(began)
				}
			}
		}
		if finished != k.m.Grace {
			t.Errorf("it commits after %v, want %v", finished, k.m.Grace)
		}
	}
}
