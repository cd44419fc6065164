package gossip

import (
	"testing"

	"loco/gossip/transfer"
)

// From a round on can be replayed what members keep without a gap up to the newest state. Two
// workers that are behind together must not take each other for the way to the others.
func TestReplayable(t *testing.T) {
	type stand struct{ oldest, round uint64 }
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
		var lineage []transfer.Voice
		for i, m := range c.members {
			v := transfer.Voice{Worker: i, Answer: transfer.Answer{Ready: true, Round: m.round, Oldest: m.oldest, Digest: [32]byte{byte(m.round)}}}
			for r := range m.round {
				v.Marks = append(v.Marks, Mark{Round: r, Digest: [32]byte{byte(r)}})
			}
			lineage = append(lineage, v)
		}
		for round := range uint64(12) {
			if got, want := replayable(lineage, round), c.from <= round && round <= c.to; got != want {
				t.Errorf("%s: from round %d on: %v, want %v", name, round, got, want)
			}
		}
	}
}
