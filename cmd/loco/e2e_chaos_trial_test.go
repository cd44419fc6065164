//go:build linux

package main

import (
	"bufio"
	"bytes"

	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"loco/mesh/netem"
	"loco/trainer"
	"loco/worker/process"
)

const (
	trialPort = 4000
	restAgain = time.Second // between the end of a process and its restart, as a service manager has it
)

// trial is a run of workers, each in its own namespace and folder.
type trial struct {
	t       *testing.T
	bed     *netem.Bed
	binary  string
	dir     string
	toml    string
	began   time.Time
	workers []*trialWorker
	news    chan news
	todo    []deed // in order of time
	cuts    map[[2]int]int
	pairs   bool // of NoLoCo
	faulty  bool // faults act now, so a process may fail to come into the run
	fell    int  // processes that ended by themselves meanwhile
	closing bool // the trial ends, whatever the workers do
}

// deed is something to do at a time.
type deed struct {
	at time.Time
	do func()
}

// trialWorker is a worker over all its processes.
type trialWorker struct {
	number int
	addrs  []string // of its last process that said where it is
	lives  []*life
	hurt   []window // when a fault of its own acted, or its process was down
}

type window struct{ from, to time.Time }

// life is one process of a worker.
type life struct {
	worker int
	cmd    *exec.Cmd
	stderr bytes.Buffer // complete when over
	events []stamped
	killed bool // by the trial
	asked  bool // to stop, by the trial
	over   bool
}

type stamped struct {
	at time.Time
	e  any
}

// news is an event of a process, or its end where e is nil.
type news struct {
	life *life
	stamped
}

func (w *trialWorker) now() *life { return w.lives[len(w.lives)-1] }

func (r *trial) workerDir(k int) string { return filepath.Join(r.dir, fmt.Sprintf("machine-%d", k)) }

// logf prints as it happens: the run takes minutes.
func (r *trial) logf(format string, args ...any) {
	r.t.Logf("%6.1f s: "+format, append([]any{time.Since(r.began).Seconds()}, args...)...)
}

// newTrial makes the bed and starts the workers.
func newTrial(t *testing.T, dir string, workers int, seed uint64, sets []string) *trial {
	t.Helper()
	r := &trial{t: t, binary: needE2E(t), dir: dir, toml: filepath.Join(dir, "run.toml"), began: time.Now(), pairs: slices.Contains(sets, "sync.strategy=noloco"), news: make(chan news, 4096), cuts: map[[2]int]int{}}
	if err := os.WriteFile(r.toml, []byte(loco(t, 0, append([]string{"config", "show"}, sets...)...)), 0o644); err != nil {
		t.Fatal(err)
	}
	bed, err := netem.New(workers, trialUplink, trialConditions, seed)
	if err != nil {
		t.Fatal(err)
	}
	r.bed = bed
	t.Cleanup(func() {
		r.closing = true
		for _, w := range r.workers {
			for _, l := range w.lives {
				l.cmd.Process.Kill()
			}
		}
		for !r.allOver() {
			r.take(<-r.news)
		}
		if err := bed.Close(); err != nil {
			t.Error(err)
		}
	})
	for k := range workers {
		r.workers = append(r.workers, &trialWorker{number: k})
		r.start(k)
		r.await(fmt.Sprintf("address of worker %d", k), func() bool { return r.workers[k].addrs != nil })
	}
	return r
}

func (r *trial) allOver() bool {
	for _, w := range r.workers {
		for _, l := range w.lives {
			if !l.over {
				return false
			}
		}
	}
	return true
}

// start starts a worker's next process. It knows the last addresses of the others.
func (r *trial) start(k int) {
	listen := fmt.Sprintf("mesh.listen=/ip4/%v/tcp/%d,/ip4/%[1]v/udp/%d/quic-v1", netem.Addr(k), trialPort, trialPort)
	args := []string{"worker", r.toml, "--dir", r.workerDir(k), "--worker", fmt.Sprint(k), "--json", "--set", listen}
	for _, w := range r.workers {
		if w.number != k && w.addrs != nil {
			args = append(args, "--join", w.addrs[0])
		}
	}
	l := &life{worker: k, cmd: exec.Command(r.binary, args...)}
	l.cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	l.cmd.Stderr = &l.stderr
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.bed.Start(k, l.cmd); err != nil {
		r.t.Fatal(err)
	}
	r.workers[k].lives = append(r.workers[k].lives, l)
	go func() {
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, process.LineMax)
		for lines.Scan() {
			if e, err := process.ParseEvent(lines.Bytes()); err == nil && e != nil {
				r.news <- news{l, stamped{time.Now(), e}}
			}
		}
		l.cmd.Wait()
		r.news <- news{l, stamped{at: time.Now()}}
	}()
}

// later puts something on the list of what is to be done.
func (r *trial) later(at time.Time, do func()) {
	r.todo = append(r.todo, deed{at, do})
	slices.SortStableFunc(r.todo, func(a, b deed) int { return a.at.Compare(b.at) })
}

// await takes news and does what is to be done until a condition holds.
func (r *trial) await(what string, done func() bool) {
	r.t.Helper()
	deadline := time.NewTimer(e2eDeadline)
	defer deadline.Stop()
	for !done() {
		var next <-chan time.Time
		if len(r.todo) > 0 {
			next = time.After(time.Until(r.todo[0].at))
		}
		select {
		case n := <-r.news:
			r.take(n)
		case <-next:
			first := r.todo[0]
			r.todo = r.todo[1:]
			first.do()
		case <-deadline.C:
			r.t.Fatalf("no %s within %v\n%s", what, e2eDeadline, r.state())
		}
	}
}

// take files news.
func (r *trial) take(n news) {
	w := r.workers[n.life.worker]
	switch e := n.e.(type) {
	case *process.AddressEvent:
		w.addrs = e.Addrs
	case *trainer.ResyncEvent:
		r.logf("worker %d takes over round %d at its round %d: %s; lost %d rounds, %d steps", e.Worker, e.Round, e.FromRound, e.Why, e.LostRounds, e.LostSteps)
	case nil:
		r.ended(n.life)
		return
	}
	n.life.events = append(n.life.events, n.stamped)
}

// ended looks at how a process ended. While faults act one may not reach the run, or find
// that its number is still its former self's; it is started again, as a service manager
// does.
func (r *trial) ended(l *life) {
	l.over = true
	if l.killed || l.asked || r.closing {
		return
	}
	text := l.stderr.String()
	expected := strings.Contains(text, "no bootstrap address answered") || strings.Contains(text, "is taken")
	r.logf("worker %d ended by itself: %v: %s", l.worker, l.cmd.ProcessState, lastLine(text))
	if !expected || !r.faulty {
		r.t.Errorf("worker %d ended by itself: %v\n%s", l.worker, l.cmd.ProcessState, tail(text))
	}
	r.fell++
	r.later(time.Now().Add(restAgain), func() { r.start(l.worker) })
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// strike begins a fault and puts its end on the list.
func (r *trial) strike(f fault) {
	r.logf("%v %v", f.side, f.kind)
	w, ends := r.workers[f.side[0]], time.Now().Add(f.ends-f.at)
	if f.kind.process() {
		w.hurt = append(w.hurt, window{time.Now(), ends})
	}
	switch l := w.now(); f.kind {
	case faultKill, faultWipe:
		l.killed = true
		l.cmd.Process.Kill()
		r.later(ends, func() { r.restart(w, f.kind == faultWipe) })
	case faultPause:
		l.cmd.Process.Signal(syscall.SIGSTOP)
		r.later(ends, func() { l.cmd.Process.Signal(syscall.SIGCONT) })
	default:
		r.part(f, +1)
		r.later(ends, func() { r.part(f, -1) })
	}
}

// restart starts a worker that was killed, once its process is gone.
func (r *trial) restart(w *trialWorker, wipe bool) {
	if !w.now().over {
		r.later(time.Now().Add(10*time.Millisecond), func() { r.restart(w, wipe) })
		return
	}
	if wipe {
		if err := os.RemoveAll(r.workerDir(w.number)); err != nil {
			r.t.Fatal(err)
		}
	}
	r.logf("worker %d is started again", w.number)
	r.start(w.number)
}

// part closes or opens the ways of a fault of the network. A way is open when no fault
// closes it.
func (r *trial) part(f fault, by int) {
	for from := range r.workers {
		for to := range r.workers {
			out, in := slices.Contains(f.side, from) && !slices.Contains(f.side, to), slices.Contains(f.side, to) && !slices.Contains(f.side, from)
			if out && f.kind != faultDeaf || in && f.kind != faultMute {
				way := [2]int{from, to}
				r.cuts[way] += by
				r.bed.Cut(from, to, r.cuts[way] > 0)
			}
		}
	}
}

// lastRound is the newest round event of a life after a time; nil if none.
func (l *life) lastRound(after time.Time) *trainer.RoundEvent {
	for _, s := range slices.Backward(l.events) {
		if s.at.Before(after) {
			return nil
		}
		if e, ok := s.e.(*trainer.RoundEvent); ok {
			return e
		}
	}
	return nil
}

// pairs is the number of rounds of a life since a time that had a partner.
func (l *life) pairs(since time.Time) (n int) {
	for _, s := range l.events {
		if e, ok := s.e.(*trainer.RoundEvent); ok && !s.at.Before(since) && e.Group == 2 {
			n++
		}
	}
	return n
}

// together returns the first and the last round since a time that every worker has done in
// one group of all; 0 if none. A worker may be a round ahead of the news of another.
func (r *trial) together(since time.Time) (first, last uint64) {
	counts := map[uint64]int{}
	for _, w := range r.workers {
		for _, s := range w.now().events {
			if e, ok := s.e.(*trainer.RoundEvent); ok && !s.at.Before(since) && e.Group == len(r.workers) {
				if counts[e.Round]++; counts[e.Round] == len(r.workers) {
					last = max(last, e.Round)
					if first == 0 || e.Round < first {
						first = e.Round
					}
				}
			}
		}
	}
	return first, last
}

// stop ends all workers in order.
func (r *trial) stop() {
	for _, w := range r.workers {
		w.now().asked = true
		w.now().cmd.Process.Signal(os.Interrupt)
	}
	r.await("end of all workers", r.allOver)
	for _, w := range r.workers {
		if l := w.now(); l.cmd.ProcessState.ExitCode() != 0 {
			r.t.Errorf("worker %d ended with %v\n%s", w.number, l.cmd.ProcessState, tail(l.stderr.String()))
		}
	}
}

// state says where everybody is.
func (r *trial) state() string {
	var b strings.Builder
	for _, w := range r.workers {
		l := w.now()
		fmt.Fprintf(&b, "worker %d, process %d, over %v", w.number, len(w.lives), l.over)
		if e := l.lastRound(time.Time{}); e != nil {
			fmt.Fprintf(&b, ", round %d of %v", e.Round, e.Members)
		}
		b.WriteString("\n")
		if log, err := os.ReadFile(filepath.Join(r.workerDir(w.number), fmt.Sprintf("worker-%d", w.number), process.LogFile)); err == nil {
			b.WriteString(tail(string(log)))
		}
	}
	return b.String()
}

// shareOfInner is the share of time in inner steps of those rounds, and parts of rounds,
// that began and ended within a window and in which nothing befell the worker itself.
func (r *trial) shareOfInner(within window) float64 {
	var inner, total float64
	for _, w := range r.workers {
		for _, l := range w.lives {
			last, steps := time.Time{}, 0.0
			for _, s := range l.events {
				switch e := s.e.(type) {
				case *trainer.StepEvent:
					steps += e.Seconds
				case *trainer.RoundEvent, *trainer.ResyncEvent:
					span := window{last, s.at}
					if !last.IsZero() && !last.Before(within.from) && !s.at.After(within.to) && !slices.ContainsFunc(w.hurt, span.meets) {
						inner += steps
						total += s.at.Sub(last).Seconds()
					}
					last, steps = s.at, 0
				}
			}
		}
	}
	if total == 0 {
		return 0
	}
	return inner / total
}

func (a window) meets(b window) bool { return a.from.Before(b.to) && b.from.Before(a.to) }
