//go:build cuda && linux && amd64

package cuda

import "slices"

// span is the indices lo to hi-1.
type span struct{ lo, hi int }

// spans is a set of indices: ascending, neither empty nor touching.
type spans []span

func (s spans) empty() bool { return len(s) == 0 }

// from returns the position of the first span that ends at lo or later.
func (s spans) from(lo int) int {
	i, _ := slices.BinarySearchFunc(s, lo, func(x span, lo int) int { return x.hi - lo })
	return i
}

// covers says whether all of lo to hi-1 are in the set.
func (s spans) covers(lo, hi int) bool {
	a, b := s.gap(lo, hi)
	return a == b
}

// gap returns the first run of indices in lo to hi-1 that are not in the set; hi, hi if there
// is none.
func (s spans) gap(lo, hi int) (int, int) {
	for i := s.from(lo); i < len(s) && lo < hi; i++ {
		if s[i].lo > lo {
			return lo, min(s[i].lo, hi)
		}
		lo = max(lo, s[i].hi)
	}
	return min(lo, hi), hi
}

// add puts lo to hi-1 into the set.
func (s *spans) add(lo, hi int) {
	if lo >= hi {
		return
	}
	i := s.from(lo)
	j := i
	for j < len(*s) && (*s)[j].lo <= hi {
		lo, hi = min(lo, (*s)[j].lo), max(hi, (*s)[j].hi)
		j++
	}
	if i < j { // reuse one of those it joins, so that nothing is allocated
		(*s)[i] = span{lo, hi}
		*s = slices.Delete(*s, i+1, j)
		return
	}
	*s = slices.Insert(*s, i, span{lo, hi})
}

// remove takes lo to hi-1 out of the set.
func (s *spans) remove(lo, hi int) {
	if lo >= hi {
		return
	}
	for i := s.from(lo); i < len(*s) && (*s)[i].lo < hi; {
		x := (*s)[i]
		switch {
		case x.hi <= lo:
			i++
		case x.lo < lo && x.hi > hi:
			(*s)[i].hi = lo
			*s = slices.Insert(*s, i+1, span{hi, x.hi})
			return
		case x.lo < lo:
			(*s)[i].hi = lo
			i++
		case x.hi > hi:
			(*s)[i].lo = hi
			return
		default:
			*s = slices.Delete(*s, i, i+1)
		}
	}
}
