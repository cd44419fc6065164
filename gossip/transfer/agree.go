package transfer

import (
	"cmp"
	"slices"

	"loco/mesh"
)

// Voice is a member's answer.
type Voice struct {
	ID     mesh.ID
	Worker int
	Answer
}

// at returns the digest of the state that round starts from, where the member knows it.
func (v *Voice) at(round uint64) ([32]byte, bool) {
	if round == v.Round {
		return v.Digest, true
	}
	i, ok := slices.BinarySearchFunc(v.Marks, round, func(m Mark, r uint64) int { return cmp.Compare(m.Round, r) })
	if !ok {
		return [32]byte{}, false
	}
	return v.Marks[i].Digest, true
}

// Agree returns the members of the lineage that a joiner belongs to, the most advanced
// first. Two members are of one lineage if they know the same digest of the older's state.
// Of two lineages the one of more tokens wins. Of equal tokens the one of more members
// wins, then that of the lowest worker: the order of docs/protocol.md, "States".
func Agree(voices []Voice) []Voice {
	voices = slices.DeleteFunc(slices.Clone(voices), func(v Voice) bool { return !v.Ready })
	slices.SortFunc(voices, func(a, b Voice) int {
		return cmp.Or(cmp.Compare(b.Tokens, a.Tokens), cmp.Compare(b.Round, a.Round), cmp.Compare(a.Worker, b.Worker), cmp.Compare(a.ID, b.ID))
	})
	if len(voices) == 0 {
		return nil
	}
	best, votes := voices[0], 0
	for _, v := range voices { // by tokens, then by the lowest worker
		n := 0
		for _, o := range voices {
			if o.Round == v.Round && o.Digest == v.Digest {
				n++
			}
		}
		if v.Tokens == best.Tokens && n > votes {
			best, votes = v, n
		}
	}
	return slices.DeleteFunc(voices, func(v Voice) bool {
		d, ok := best.at(v.Round)
		return !ok || d != v.Digest
	})
}

// Agreed returns the digest of the state that round starts from, if more than half of the
// voters say it. Voters are the members of a lineage that are in that round or past it. A
// member that is behind has no vote, because the one that finished a round may be the only
// one left that knows its state.
func Agreed(lineage []Voice, round uint64) (digest [32]byte, ok bool) {
	votes, voters := map[[32]byte]int{}, 0
	for i := range lineage {
		if lineage[i].Round >= round {
			voters++
		}
		if d, ok := lineage[i].at(round); ok {
			votes[d]++
		}
	}
	for d, n := range votes {
		if 2*n > voters {
			return d, true
		}
	}
	return digest, false
}

// Newest returns the newest state that a lineage agrees on.
func Newest(lineage []Voice) (m Mark, ok bool) {
	for _, v := range lineage {
		if d, agreed := Agreed(lineage, v.Round); agreed && (!ok || v.Round > m.Round) {
			m, ok = Mark{Round: v.Round, Digest: d}, true
		}
	}
	return m, ok
}
