package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"loco/worker/process"
)

// child is one worker process of a local run.
type child struct {
	number   int
	cmd      *exec.Cmd
	stop     io.Closer // its standard input: closing it asks the worker to stop
	restarts int
}

// exitEvent is put among a worker's events when its process has ended.
type exitEvent struct {
	child *child
	err   error
}

// startChild starts a worker process. Its events, and at the end an *exitEvent, go to
// events. The process stops by itself when its standard input closes, so it does not
// outlive this one, however this one ends.
func startChild(ctx context.Context, number int, args []string, events chan<- any, stderr io.Writer) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	c := &child{number: number, cmd: exec.CommandContext(ctx, self, args...)}
	c.cmd.WaitDelay = 10 * time.Second
	c.cmd.Stderr = &prefixWriter{w: stderr, prefix: fmt.Sprintf("worker %d: ", number)}
	if c.stop, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start worker %d: %w", number, err)
	}
	go func() {
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, process.LineMax)
		for lines.Scan() {
			e, err := process.ParseEvent(lines.Bytes())
			if err != nil {
				fmt.Fprintf(c.cmd.Stderr, "%v\n", err)
			} else if e != nil {
				events <- e
			}
		}
		events <- &exitEvent{c, errors.Join(lines.Err(), c.cmd.Wait())}
	}()
	return c, nil
}

// prefixWriter writes whole lines, each behind a prefix.
type prefixWriter struct {
	mu     sync.Mutex
	w      io.Writer
	prefix string
	rest   []byte
}

func (p *prefixWriter) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rest = append(p.rest, b...)
	for {
		i := bytes.IndexByte(p.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		if _, err := fmt.Fprintf(p.w, "%s%s\n", p.prefix, p.rest[:i]); err != nil {
			return 0, err
		}
		p.rest = p.rest[i+1:]
	}
}
