package gossip

import (
	"testing"

	"loco/gossip/exchange"
	"loco/gossip/transfer"
)

// stand is from which round on a member keeps results, and its own.
type stand struct{ oldest, round uint64 }

// From a round on can be replayed what members keep without a gap up to the newest state. Two
// workers that are behind together must not take each other for the way to the others.
func TestReplayable(t *testing.T) {
	for name, c := range map[string]struct {
		members  []stand
		from, to uint64 // the rounds from which it is; none where from > to
	}{
		"one keeps some":              {[]stand{{3, 9}}, 3, 9},
		"one keeps none":              {[]stand{{9, 9}}, 9, 9},
		"one that is behind as well":  {[]stand{{9, 9}, {2, 2}}, 9, 9},
		"one behind keeps what leads": {[]stand{{5, 9}, {2, 5}}, 2, 9},
		"a gap between the two":       {[]stand{{6, 9}, {2, 5}}, 6, 9},
		"nobody":                      {nil, 1, 0},
	} {
		lineage := lineageOf(c.members)
		for round := range uint64(12) {
			if got, want := replayable(lineage, round), c.from <= round && round <= c.to; got != want {
				t.Errorf("%s: from round %d on: %v, want %v", name, round, got, want)
			}
		}
	}
}

// Where no results lead on from the round that most members are in, a member that is further on is
// asked for its own state.
func TestCandidates(t *testing.T) {
	for name, c := range map[string]struct {
		members []stand
		want    uint64 // the first candidate's round
	}{
		"most stand at the newest":         {[]stand{{3, 9}, {9, 9}, {8, 8}}, 9},
		"most stand where results lead on": {[]stand{{3, 9}, {8, 8}, {8, 8}}, 8},
		"nobody keeps what leads on":       {[]stand{{9, 9}, {8, 8}, {8, 8}}, 9},
	} {
		marks := candidates(lineageOf(c.members))
		if len(marks) == 0 || marks[0].Round != c.want {
			t.Errorf("%s: asks for %v, want round %d first", name, marks, c.want)
		}
	}
}

// lineageOf is the voices of one lineage.
func lineageOf(members []stand) (lineage []transfer.Voice) {
	for i, m := range members {
		v := transfer.Voice{Worker: i, Answer: transfer.Answer{Ready: true, Round: m.round, Oldest: m.oldest, Digest: [32]byte{byte(m.round)}}}
		for r := range m.round {
			v.Marks = append(v.Marks, exchange.Mark{Round: r, Digest: [32]byte{byte(r)}})
		}
		lineage = append(lineage, v)
	}
	return lineage
}
