package protocol

import (
	"slices"

	"loco/kernels/splitmix"
)

// Match returns the partner of worker self in a round, and false for the odd one out
// or a worker that is not among workers. It is a function of seed, round and the set
// of workers alone (NoLoCo, arXiv 2506.10911, section 3: a random matching at every
// outer step).
//
// All numbers from 0 to the highest are matched first. The workers whose partner by that
// is none of the set, and the odd one, are then matched with each other. So where two
// workers' views differ by one that has died, or has yet to be seen, they differ in the
// partners of a few and not of all.
func Match(seed, round uint64, workers []int, self int) (partner int, ok bool) {
	if len(workers) == 0 {
		return 0, false
	}
	all := make([]int, slices.Max(workers)+1)
	in := make([]bool, len(all))
	for i := range all {
		all[i] = i
	}
	for _, w := range workers {
		in[w] = true
	}
	random := splitmix.Source(seed)
	random = splitmix.Source(random.Next() ^ round)
	shuffle(all, &random)
	half := len(all) / 2
	var orphans []int
	for k, w := range all {
		if other := (k + half) % (2 * max(1, half)); k < 2*half && in[all[other]] {
			if w == self && in[w] {
				return all[other], true
			}
		} else if in[w] {
			orphans = append(orphans, w)
		}
	}
	slices.Sort(orphans)
	shuffle(orphans, &random)
	half = len(orphans) / 2
	at := slices.Index(orphans, self)
	if at < 0 || at >= 2*half {
		return 0, false
	}
	return orphans[(at+half)%(2*half)], true
}

// shuffle permutes by Fisher and Yates.
func shuffle(perm []int, random *splitmix.Source) {
	for i := len(perm) - 1; i > 0; i-- {
		j := splitmix.Below(random.Next(), uint64(i+1))
		perm[i], perm[j] = perm[j], perm[i]
	}
}
