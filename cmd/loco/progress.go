package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"loco/trainer"
	"loco/worker"
	"loco/worker/process"
)

// lineTime is the longest that plain lines stay away while rounds are done.
const lineTime = 10 * time.Second

// display shows the progress of a local run: a live bar on a terminal, plain lines
// elsewhere. It is used from one goroutine.
type display struct {
	board *board
	out   io.Writer
	began time.Time
	bar   *mpb.Bar
	bars  *mpb.Progress
	first uint64 // tokens of all workers when this session began
	// Σ of the schedule's steps that the workers had done then. Where rounds have an inner
	// time they are no measure of tokens.
	firstStep uint64
	seen      map[int]bool
	late      map[int]bool // named
	printed   uint64       // the last round that had a line
	every     uint64       // rounds between plain lines, unless lineTime passes first
	spoke     time.Time
	line      atomic.Value // string, of the live display: another goroutine draws it
}

func newDisplay(b *board, out *os.File) *display {
	d := &display{board: b, out: out, began: time.Now(), spoke: time.Now(), seen: map[int]bool{}}
	d.every = max(1, b.cfg.Exchanges()/20)
	if term.IsTerminal(int(out.Fd())) {
		d.line.Store("waiting for the workers")
		d.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(40), mpb.WithRefreshRate(200*time.Millisecond))
		d.bar = d.bars.AddBar(int64(b.cfg.TotalSteps()),
			mpb.AppendDecorators(decor.Percentage()),
			mpb.BarExtender(mpb.BarFillerFunc(func(w io.Writer, _ decor.Statistics) error {
				_, err := fmt.Fprintln(w, d.line.Load())
				return err
			}), false))
	}
	return d
}

// show brings the display up to an event that the board has taken.
func (d *display) show(event any) {
	if e, ok := event.(*trainer.StepEvent); ok && !d.seen[e.Worker] {
		d.seen[e.Worker] = true
		d.first += e.Tokens - d.board.cfg.TokensPerStep()
		d.firstStep += e.Step - 1
	}
	if d.bar != nil {
		d.line.Store(d.status())
		d.bar.SetCurrent(int64(d.meanStep()))
	}
	switch e := event.(type) {
	case *worker.PeersEvent:
		if planned := d.board.cfg.Run.Workers; d.board.only && e.Ready < planned {
			d.println(fmt.Sprintf("%d of %d workers are ready; starting without the rest after mesh.join_timeout = %s", e.Ready, planned, d.board.cfg.Mesh.JoinTimeout))
		}
	case *trainer.RoundEvent:
		if d.bar == nil && e.Round > d.printed && (e.Round >= d.printed+d.every || time.Since(d.spoke) > lineTime) {
			d.printed, d.spoke = e.Round, time.Now()
			d.println(d.status())
		}
	case *trainer.ResyncEvent:
		d.println(fmt.Sprintf("worker %d took over the others' state at round %d (%s); %d inner steps were lost", e.Worker, e.Round, e.Why, e.LostSteps))
	case *worker.LateEvent:
		d.showLate(e)
	}
}

// showLate names a late worker once, however many see it.
func (d *display) showLate(e *worker.LateEvent) {
	is := slices.Contains(d.board.lateWorkers(), e.Who)
	if is == d.late[e.Who] {
		return
	}
	if d.late == nil {
		d.late = map[int]bool{}
	}
	d.late[e.Who] = is
	if is {
		d.println(fmt.Sprintf("worker %d is late in most rounds and not waited for but now and then; sync.inner_time or sync.slow_cycle keep what it trains", e.Who))
	} else {
		d.println(fmt.Sprintf("worker %d is in time again", e.Who))
	}
}

// println prints a line that stays.
func (d *display) println(line string) {
	if d.bars != nil {
		fmt.Fprintln(d.bars, line)
		return
	}
	fmt.Fprintln(d.out, line)
}

// close leaves the display as it is.
func (d *display) close() {
	if d.bar != nil {
		d.bar.EnableTriggerComplete()
		d.bar.Abort(false)
		d.bars.Wait()
	}
}

// meanStep is the schedule's step, the mean over live workers.
func (d *display) meanStep() float64 {
	sum, n := 0.0, 0
	for _, w := range d.board.workers {
		if !w.down && w.step.Step > 0 {
			sum, n = sum+float64(w.step.Step), n+1
		}
	}
	return sum / float64(max(1, n))
}

// status is the one line that says everything.
func (d *display) status() string {
	var round uint64
	live, group := 0, 1
	for _, w := range d.board.workers {
		round = max(round, w.round.Round)
		if !w.down {
			live++
			group = max(group, w.round.Group)
		}
	}
	if d.board.only { // the other workers belong to other supervisors
		live = group
	}
	tokens, sent, _ := d.board.totals()
	elapsed := time.Since(d.began)
	rate := float64(tokens-min(tokens, d.first)) / elapsed.Seconds()
	parts := []string{
		fmt.Sprintf("round %d/%d", round, d.board.cfg.Exchanges()),
		"loss " + formatLoss(d.board.loss()),
	}
	if loss, at := d.board.heldout(); at > 0 {
		parts = append(parts, "held-out "+formatLoss(loss))
	}
	parts = append(parts, process.FormatCount(rate)+" tok/s", plural(live, "worker"), process.FormatBytes(sent)+" exchanged")
	if left := d.left(elapsed); left > 0 {
		parts = append(parts, formatSpan(left)+" left")
	}
	return strings.Join(parts, "  ")
}

// left estimates the time to the end from the steps of this session.
func (d *display) left(elapsed time.Duration) time.Duration {
	perWorker := float64(d.board.cfg.TotalSteps())
	begin := float64(d.firstStep) / float64(max(1, len(d.seen)))
	now := d.meanStep()
	if now <= begin {
		return 0
	}
	return time.Duration(float64(elapsed) * (perWorker - now) / (now - begin))
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func formatLoss(x float64) string {
	if math.IsNaN(x) {
		return "-"
	}
	return fmt.Sprintf("%.3f", x)
}

// formatSpan writes a time span in whole seconds.
func formatSpan(d time.Duration) string { return d.Round(time.Second).String() }
