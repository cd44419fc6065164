package clustertest

import (
	"slices"
	"sync"
	"time"
)

// fault is one thing that goes wrong for a while.
type fault struct {
	at, lasts time.Duration
	what      func(lasts time.Duration)
}

// schedule draws the faults of a world and returns what lets them happen.
func (w *world) schedule() func() {
	p := w.params
	var faults []fault
	for range p.faults {
		f := fault{at: time.Duration(w.rng.Int64N(int64(p.until))), lasts: 200*time.Millisecond + time.Duration(w.rng.Int64N(int64(15*time.Second)))}
		f.what = w.drawFault()
		faults = append(faults, f)
	}
	for i := range w.slots {
		w.slots[i].skew = time.Duration(w.rng.Int64N(int64(1000*time.Hour))) - 500*time.Hour
		if p.faults > 0 && w.rng.IntN(4) == 0 {
			w.slots[i].slow = 1 + 3*w.rng.Float64()
		}
	}
	w.check.strike = w.strikes()
	return func() {
		var wg sync.WaitGroup
		for _, f := range faults {
			wg.Go(func() {
				<-time.After(f.at)
				f.what(f.lasts)
			})
		}
		wg.Wait()
		<-time.After(w.params.until - time.Since(w.begun))
		w.strikers.Wait()
	}
}

// strikes returns what is called at each result that is taken, and hits where it hurts
// most: now and then it ends a process that has just decided, before the others know, or
// stops one that has yet to hear of it.
func (w *world) strikes() func(p *process) {
	return func(p *process) {
		w.mu.Lock()
		chance, i, kill := w.rng.IntN(40), w.rng.IntN(len(w.slots)), w.rng.IntN(2) == 0
		lasts := 200*time.Millisecond + time.Duration(w.rng.Int64N(int64(8*time.Second)))
		w.mu.Unlock()
		if chance > 0 || w.params.faults == 0 || time.Since(w.begun) > w.params.until {
			return
		}
		w.strikers.Go(func() {
			if kill {
				w.kill(p, lasts)
			} else if i != p.index {
				w.standStill(i, lasts)
			}
		})
	}
}

// drawFault returns something that goes wrong for as long as it is told, and then is right
// again.
func (w *world) drawFault() func(lasts time.Duration) {
	n := w.params.workers
	i, j, kind := w.rng.IntN(n), w.rng.IntN(n), w.rng.IntN(10)
	both, wiped := w.rng.IntN(2) == 0, w.rng.IntN(3) == 0
	var side []int
	for k := range n {
		if w.rng.IntN(2) == 0 {
			side = append(side, k)
		}
	}
	switch kind {
	case 0, 1: // two sides
		return func(lasts time.Duration) {
			w.cut(lasts, func(a, b int) bool { return slices.Contains(side, a) != slices.Contains(side, b) })
		}
	case 2: // a link, or one direction of it
		return func(lasts time.Duration) {
			w.cut(lasts, func(a, b int) bool { return a == i && b == j || both && a == j && b == i })
		}
	case 3: // a worker, or one direction of its links
		return func(lasts time.Duration) { w.cut(lasts, func(a, b int) bool { return a == i || both && b == i }) }
	case 4, 5:
		return func(lasts time.Duration) { w.standStill(i, lasts) }
	case 6:
		return func(lasts time.Duration) {
			if p := w.process(i); p != nil {
				w.tracef(p.name(), "is asked to leave for %v", lasts)
				w.check.down(i, lasts)
				w.mu.Lock()
				w.slots[i].hold = time.Now().Add(lasts)
				w.mu.Unlock()
				p.quit()
			}
		}
	default:
		return func(lasts time.Duration) {
			p := w.process(i)
			if p == nil {
				return
			}
			w.kill(p, lasts)
			if wiped {
				w.tracef(p.name(), "loses its disk")
				w.wipe(i)
			}
		}
	}
}

// cut breaks links for a while. Cuts that overlap end with the first: that is a schedule
// like any other.
func (w *world) cut(lasts time.Duration, hit func(a, b int) bool) {
	set := func(on bool) {
		for a := range w.slots {
			for b := range w.slots {
				if a != b && hit(a, b) {
					if on {
						w.check.cuts(a, b, lasts)
					}
					w.tracef("fault", "the link from w%d to w%d is cut: %v", a, b, on)
					w.net.cut(a, b, on)
				}
			}
		}
	}
	set(true)
	<-time.After(lasts)
	set(false)
}

func (w *world) standStill(i int, lasts time.Duration) {
	w.tracef("fault", "w%d is paused for %v", i, lasts)
	w.check.stands(i, lasts)
	w.net.stop(i, true)
	<-time.After(lasts)
	w.net.stop(i, false)
	w.tracef("fault", "w%d goes on", i)
}
