// Command mutants measures how much a package's tests hold: it plants one small mistake at a time and
// runs the tests, which ought to fail.
//
//	make mutants P=./optim N=40 SEED=7
//
// It draws mutants at random, by a seed that it prints, from the hand-written files of the package that
// this platform builds. Nothing in the tree is written: the go command takes the changed file from an
// overlay. The mistakes are:
//
//	bound      < for <=, > for >=, and the reverse
//	equality   == for !=, and the reverse
//	operator   + for -, * for /, << for >>, & for |, && for ||, and the reverse; also in +=, ++ and so on
//	constant   a number one more, one less or doubled; true for false
//	negation   if c becomes if !(c)
//	guard      a check that ends in return, continue, break or panic never holds
//	statement  an assignment or a call is left out
//	result     a returned value becomes its type's zero
//
// A mutant that does not compile is drawn again. A test binary that outlives its time limit or its
// memory, which a shell's ulimit -v bounds as on Linux, kills the mutant. Survivors that nobody can tell from the original are listed in
// equivalent.txt, and are not drawn.
//
// Gremlins (github.com/go-gremlins/gremlins) was the alternative. It has neither sampling by a seed nor
// the last three kinds, and it copies the tree for each of its workers.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"
)

func main() {
	var o options
	flag.IntVar(&o.count, "n", 40, "how many mutants to run, without those that do not compile")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano())%1e6, "which mutants to draw")
	flag.DurationVar(&o.timeout, "timeout", 0, "time limit of the tests; 0: 10 s and ten times what they take without a mutant")
	flag.IntVar(&o.memoryMiB, "memory", 12<<10, "limit of a test's address space, MiB")
	flag.IntVar(&o.parallel, "parallel", 1, "how many mutants to run at a time")
	flag.StringVar(&o.only, "only", "", "draw only mutants whose FILE:LINE, function or kind contains this text")
	also := flag.String("also", "", "other packages whose tests count, separated by commas")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: mutants [flags] PACKAGE")
		flag.PrintDefaults()
		os.Exit(2)
	}
	o.pkg = flag.Arg(0)
	if *also != "" {
		o.also = strings.Split(*also, ",")
	}
	known, err := parseEquivalents(equivalentText)
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		_, err = run(ctx, o, known, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

type options struct {
	pkg       string
	also      []string
	count     int
	seed      uint64
	timeout   time.Duration
	memoryMiB int
	parallel  int
	only      string
	dir       string // where the go command runs; empty: here
}

// tally counts the verdicts. A verdict's index in it is the verdict.
type tally [verdicts]int

func (t tally) total() int { return t[killed] + t[timedOut] + t[survived] }

func (t tally) rate() float64 {
	if t.total() == 0 {
		return 0
	}
	return 100 * float64(t[killed]+t[timedOut]) / float64(t.total())
}

// run draws mutants until o.count of them have compiled, and reports each to w.
func run(ctx context.Context, o options, known equivalents, w io.Writer) (tally, error) {
	var sum tally
	b, err := newBench(ctx, o)
	if err != nil {
		return sum, err
	}
	defer b.close()
	all, err := b.mutants()
	if err != nil {
		return sum, err
	}
	left, excluded := known.without(all)
	drawn := draw(left, o)
	fmt.Fprintf(w, "%s: %d mutants, of which %d are equivalent; seed %d\n", o.pkg, len(all), excluded, o.seed)
	start := time.Now()
	if v, out, err := b.try(ctx, nil); err != nil || v != survived {
		return sum, fmt.Errorf("the tests do not pass without a mutant: %v: %v\n%s", v, err, out)
	}
	if o.timeout == 0 {
		b.o.timeout = (10*time.Since(start) + 10*time.Second).Truncate(time.Second)
	}

	var lived []mutant
	for next := 0; next < len(drawn) && sum.total() < o.count; {
		batch := drawn[next:min(next+max(1, o.parallel), len(drawn), next+o.count-sum.total())]
		next += len(batch)
		results := make([]outcome, len(batch))
		var wg sync.WaitGroup
		for i, m := range batch {
			wg.Go(func() {
				start := time.Now()
				v, _, err := b.try(ctx, &m)
				results[i] = outcome{v, time.Since(start), err}
			})
		}
		wg.Wait()
		for i, m := range batch {
			if results[i].err != nil {
				return sum, results[i].err
			}
			sum[results[i].verdict]++
			fmt.Fprintf(w, "%-13s %5.1fs  %v\n", results[i].verdict, results[i].took.Seconds(), m)
			if results[i].verdict == survived {
				lived = append(lived, m)
			}
		}
	}
	report(w, o, sum, lived)
	return sum, nil
}

type outcome struct {
	verdict verdict
	took    time.Duration
	err     error
}

func report(w io.Writer, o options, sum tally, lived []mutant) {
	if len(lived) > 0 {
		fmt.Fprintln(w, "\nSurvivors, as lines for equivalent.txt where they are:")
		for _, m := range lived {
			fmt.Fprintf(w, "%s:%d\n%s\n", m.file, m.line, m.key())
		}
	}
	fmt.Fprintf(w, "\n%s seed %d: killed %d of %d (%.0f %%), of which %d by time; %d survived, %d did not compile\n",
		o.pkg, o.seed, sum[killed]+sum[timedOut], sum.total(), sum.rate(), sum[timedOut], sum[survived], sum[broken])
}
