package clustertest

import (
	"testing"
	"testing/synctest"
	"time"
)

// A worker that is cut off goes on alone, is killed, and is started again with its disk when the
// cut is over: it goes over to the others' state, of which more tokens were trained for, and
// counts the rounds since the cut as lost.
func TestARestartOnTheLosingSideCountsItsLoss(t *testing.T) {
	for name, down := range map[string]time.Duration{"behind the others": 20 * time.Second, "about as far as they": time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := quiet(2)
				p.workers, p.quorum, p.faults, p.saveEvery, p.detection = 4, 0, 1, 1, time.Second
				w := newWorld(t, 2, p)
				w.net = newSimNet(2, p)
				const loser = 3
				var alone, from uint64
				w.run(func() {
					<-time.After(15 * time.Second)
					from = w.process(loser).round.Load()
					w.cut(25*time.Second, func(a, b int) bool { return (a == loser) != (b == loser) })
					last := w.process(loser)
					alone = last.round.Load() - from
					w.kill(last, down)
					<-time.After(down)
				})
				if alone < 3 {
					t.Fatalf("%d rounds alone: this says nothing", alone)
				}
				e := w.check.events[loser]
				if len(e) == 0 || e[0].LostRounds+2 < alone || e[0].LostRounds > alone+1 || e[0].LostTokens < e[0].LostRounds*p.inner*stepTokens {
					t.Errorf("alone for %d rounds from %d on, and of these counts as lost: %d events, %+v", alone, from, len(e), e[:min(1, len(e))])
				}
			})
		})
	}
}
