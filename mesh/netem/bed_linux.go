package netem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	mtu         = 1500 // bytes of a packet
	device      = "tun0"
	commandTime = 10 * time.Second // for ip and tc
	tbfBurst    = 64 << 10         // bytes: what a timer of 250 Hz lets pass at 100 Mbit/s, and some
	tbfQueue    = 200 * time.Millisecond
	idle        = time.Hour // the switch's nap when nothing is under way; a packet wakes it
)

// Bed is a switch with a namespace for each node. The namespaces have no name: they end
// with the last thread or process in them, so nothing is left of a bed whose process was
// killed.
type Bed struct {
	nodes []*node
	began time.Time
	wake  chan struct{} // a packet may be due earlier than the last time looked
	done  chan struct{}
	wg    sync.WaitGroup

	mu sync.Mutex
	sw *Switch
}

// New makes a bed. uplink is what each node can send, in bits a second. It fails where
// this process may not make namespaces or TUN devices, or iproute2 is missing.
func New(nodes int, uplink float64, c Conditions, seed uint64) (*Bed, error) {
	sw, err := NewSwitch(nodes, c, seed)
	if err != nil {
		return nil, err
	}
	if !(uplink > 0) {
		return nil, fmt.Errorf("netem: uplink of %v bits a second, want more than 0", uplink)
	}
	b := &Bed{sw: sw, began: time.Now(), wake: make(chan struct{}, 1), done: make(chan struct{})}
	for k := range nodes {
		n, err := newNode(k, uplink)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("netem: node %d: %w; it takes root, /dev/net/tun and iproute2", k, err), b.Close())
		}
		b.nodes = append(b.nodes, n)
	}
	for k := range b.nodes {
		b.wg.Go(func() { b.read(k) })
	}
	b.wg.Go(b.deliver)
	return b, nil
}

// Close ends the bed. Processes that run in it lose their network; they are the caller's.
func (b *Bed) Close() error {
	close(b.done)
	var errs []error
	for _, n := range b.nodes {
		errs = append(errs, n.close())
	}
	b.wg.Wait()
	return errors.Join(errs...)
}

// Start starts a command in a node's namespace. The command is killed if this process
// dies.
func (b *Bed) Start(node int, cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // of the node's thread, which lives as long as the bed
	return b.nodes[node].do(cmd.Start)
}

// Cut closes the way from one node to another, or opens it. What is under way is lost.
func (b *Bed) Cut(from, to int, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sw.Cut(from, to, closed)
}

// Stats returns the counts so far.
func (b *Bed) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sw.Stats()
}

// read takes the packets of one node into the switch until its device is closed.
func (b *Bed) read(k int) {
	buf := make([]byte, 1<<16)
	for {
		n, err := b.nodes[k].tun.Read(buf)
		if err != nil {
			return
		}
		packet := append([]byte(nil), buf[:n]...)
		b.mu.Lock()
		b.sw.Accept(time.Since(b.began), k, packet)
		b.mu.Unlock()
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
}

// deliver writes the packets that are due to their nodes.
func (b *Bed) deliver() {
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		b.mu.Lock()
		now := time.Since(b.began)
		to, packet, ok := b.sw.Due(now)
		next, more := b.sw.Next()
		b.mu.Unlock()
		if ok {
			// A device whose queue is full, or that is being closed, loses the packet.
			_, _ = b.nodes[to].tun.Write(packet)
			continue
		}
		if wait := next - now; more {
			timer.Reset(wait)
		} else {
			timer.Reset(idle)
		}
		select {
		case <-timer.C:
		case <-b.wake:
		case <-b.done:
			return
		}
	}
}

// node is a namespace: a thread that is in it, and its TUN device.
type node struct {
	tun  *os.File
	work chan func()
	over chan struct{} // the thread is gone
}

// newNode makes a namespace with a loopback, an address and a shaped way out.
func newNode(k int, uplink float64) (*node, error) {
	n := &node{work: make(chan func()), over: make(chan struct{})}
	entered := make(chan error)
	go n.thread(entered)
	if err := <-entered; err != nil {
		return nil, err
	}
	err := n.do(func() (err error) {
		if n.tun, err = openTun(); err != nil {
			return err
		}
		for _, line := range []string{
			"ip link set lo up",
			fmt.Sprintf("ip addr add %v/24 dev %s", Addr(k), device),
			fmt.Sprintf("ip link set %s mtu %d up", device, mtu),
			fmt.Sprintf("tc qdisc add dev %s root tbf rate %.0fbit burst %d latency %v", device, uplink, tbfBurst, tbfQueue),
		} {
			if err := run(line); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

// thread works in a namespace of its own. Its goroutine never unlocks it, so the runtime
// ends the thread, and the namespace with it.
func (n *node) thread(entered chan<- error) {
	runtime.LockOSThread()
	defer close(n.over)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		entered <- fmt.Errorf("make a network namespace: %w", err)
		return
	}
	entered <- nil
	for f := range n.work {
		f()
	}
}

// do runs f in the namespace.
func (n *node) do(f func() error) error {
	result := make(chan error)
	n.work <- func() { result <- f() }
	return <-result
}

func (n *node) close() (err error) {
	if n.tun != nil {
		err = n.tun.Close()
	}
	close(n.work)
	<-n.over
	return err
}

// openTun makes a TUN device in the namespace of the calling thread. Its packets have no
// header before IP's.
func openTun() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(device)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a TUN device: %w", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), device), nil
}

// run runs a command line, whose words have no spaces.
func run(line string) error {
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	words := strings.Fields(line)
	out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(string(out)))
	}
	return nil
}
