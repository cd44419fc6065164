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

// Agree returns the members of the lineage that a joiner belongs into, those furthest on
// first. Two members are of one lineage where they know the same digest of the older's
// state. Of two lineages the one of more tokens wins; of equal ones the one of more
// members, then that of the lowest worker: the order of docs/protocol.md, "States".
func Agree(voices []Voice) []Voice {
	voices = slices.DeleteFunc(slices.Clone(voices), func(v Voice) bool { return !v.Ready })
	slices.SortFunc(voices, func(a, b Voice) int {
		return cmp.Or(cmp.Compare(b.Tokens, a.Tokens), cmp.Compare(b.Round, a.Round), cmp.Compare(a.Worker, b.Worker), cmp.Compare(a.ID, b.ID))
	})
	var lineages [][]Voice
next:
	for _, v := range voices {
		for i, l := range lineages {
			if d, ok := l[0].at(v.Round); ok && d == v.Digest {
				lineages[i] = append(l, v)
				continue next
			}
		}
		lineages = append(lineages, []Voice{v})
	}
	var best []Voice
	for _, l := range lineages { // by tokens, then by the lowest worker
		if best == nil || l[0].Tokens == best[0].Tokens && len(l) > len(best) {
			best = l
		}
	}
	return best
}

// Agreed returns the digest of the state that round starts from, when more than half of a
// lineage's members say it.
func Agreed(lineage []Voice, round uint64) (digest [32]byte, ok bool) {
	votes := map[[32]byte]int{}
	for i := range lineage {
		if d, ok := lineage[i].at(round); ok {
			if votes[d]++; 2*votes[d] > len(lineage) {
				return d, true
			}
		}
	}
	return digest, false
}

// Newest returns the newest state that more than half of a lineage's members know.
func Newest(lineage []Voice) (m Mark, ok bool) {
	for _, v := range lineage {
		if d, agreed := Agreed(lineage, v.Round); agreed && (!ok || v.Round > m.Round) {
			m, ok = Mark{v.Round, d}, true
		}
	}
	return m, ok
}
