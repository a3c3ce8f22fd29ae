//go:build linux

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"
)

func main() {
	quick := flag.Bool("quick", false, "few rounds, and limits with a margin for a busy machine")
	flag.Parse()
	rounds, margin := 11, 1.0
	if *quick {
		rounds, margin = 5, 1.5
	}
	if err := run(context.Background(), os.Stdout, rounds, margin); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

// run measures everything, prints it, and returns an error that names what is
// over its limit by more than the margin.
func run(ctx context.Context, out io.Writer, rounds int, margin float64) error {
	folder, err := os.MkdirTemp("", "measure")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	p, err := build(folder)
	if err != nil {
		return err
	}
	b, err := newBench(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := b.save(folder); err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "what\tkey\tfido\tlibfido2\tpython-fido2\treports alone\tratio\tlimit")
	var over error
	for _, measure := range []func() ([]result, error){
		func() ([]result, error) { return p.commands(b, rounds) },
		func() ([]result, error) { return p.starts(b, rounds) },
		p.sizes,
	} {
		results, err := measure()
		if err != nil {
			return err
		}
		for _, r := range results {
			fmt.Fprintln(table, r)
			over = errors.Join(over, r.judge(margin))
		}
	}
	return errors.Join(table.Flush(), over)
}

// A result is what the clients took for the same thing; 0 is nothing. limit
// is for our part of what against took, and 0 if there is none.
type result struct {
	what, key string
	unit      string
	took      [clients]float64
	against   int
	limit     float64
	exact     bool // it is the same each time, and needs no margin
	elapsed   bool // not judged with a margin, which no busy machine keeps to
}

func (r *result) ratio() float64 { return r.took[ours] / r.took[r.against] }

// String returns a line of the table.
func (r result) String() string {
	line := r.what + ", " + r.unit + "\t" + r.key
	for _, v := range r.took {
		line += "\t"
		if v > 0 {
			line += strconv.FormatFloat(v, 'f', 1, 64)
		}
	}
	line += fmt.Sprintf("\t%.2f\t", r.ratio())
	if r.limit > 0 {
		line += fmt.Sprintf("%.2f", r.limit)
	}
	return line
}

func (r *result) judge(margin float64) error {
	if r.exact {
		margin = 1
	}
	if r.limit == 0 || r.elapsed && margin > 1 || r.ratio() <= r.limit*margin {
		return nil
	}
	return fmt.Errorf("%s, %s: %.2f × is over %.2f ×", r.what, r.key, r.ratio(), r.limit*margin)
}

// commands measures the processor time of single commands.
func (p *programs) commands(b *bench, rounds int) ([]result, error) {
	// Nobody asks the key where the replies are in memory. Where Go's runtime waits
	// for reports and little else is done, the ratio is that of the two ways to
	// wait, and has no limit.
	const (
		memory = "replies in memory"
		polled = "virtual, in poll"
	)
	canned, paced := b.canned(0), b.canned(time.Millisecond)
	all := []int{ours, libfido2, pythonFIDO2, reportsAlone}
	var results []result
	for _, m := range []struct {
		operation string
		key       string
		peer      peer
		clients   []int
		times     int // in one run of a client
		against   int
		limit     float64
	}{
		{"getInfo", memory, canned, all[:3], 20000, libfido2, 1},
		{"getAssertion", memory, canned, all[:3], 20000, libfido2, 1},
		{"getInfo", polled, b.virtual, all, 500, libfido2, 1},
		{"getAssertion", polled, b.virtual, all, 500, libfido2, 1},
		{"getInfo", "virtual", b.virtual, all, 500, libfido2, 0},
		{"getAssertion", "virtual", b.virtual, all, 500, libfido2, 0},
		{"getAssertion with PIN", "virtual", b.virtual, all[:3], 200, libfido2, 1},
		{"getInfo", "a report each ms", paced, all, 30, libfido2, 0},
		{"PING", "echo", canned, []int{ours, pythonFIDO2, reportsAlone}, 100, reportsAlone, 2}, // libfido2 has none
	} {
		var took [clients][]float64
		rounds := rounds
		if m.key == polled {
			rounds *= 3 // the ratio is near its limit
		}
		for round := range rounds {
			for _, client := range turns(m.clients, round) {
				operation, times, folder := m.operation, m.times, ""
				if m.key == polled && (client == ours || client == reportsAlone) {
					operation = "polling " + operation
				}
				switch client {
				case pythonFIDO2:
					times = max(times/20, 2)
				case reportsAlone:
					operation = "reports of " + operation
				}
				if m.key == memory {
					folder = p.folder
				}
				arguments := []string{operation, strconv.Itoa(times), hex.EncodeToString(b.credential), folder}
				printed, _, err := start(m.peer, slices.Concat(p.clients[client], arguments)...)
				if err != nil {
					return nil, err
				}
				ns, err := strconv.ParseFloat(printed, 64)
				if err != nil {
					return nil, err
				}
				took[client] = append(took[client], ns/1000)
			}
		}
		results = append(results, result{
			what: m.operation, key: m.key, unit: "µs", took: medians(took), against: m.against, limit: m.limit,
		})
	}
	return results, nil
}

// starts measures programs from start to exit, which open a key and print its
// getInfo.
func (p *programs) starts(b *bench, rounds int) ([]result, error) {
	once := []string{"print", "1", "", ""}
	commands := [clients][]string{
		ours:         {p.path("getinfo"), "3"},
		libfido2:     slices.Concat(p.clients[libfido2], once),
		pythonFIDO2:  slices.Concat(p.clients[pythonFIDO2], once),
		reportsAlone: {p.path("samebytes"), "3"},
	}
	var wall, processor [clients][]float64
	for round := range rounds * 5 {
		for _, client := range turns([]int{ours, libfido2, pythonFIDO2, reportsAlone}, round) {
			_, c, err := start(b.canned(0), commands[client]...)
			if err != nil {
				return nil, err
			}
			wall[client] = append(wall[client], float64(c.wall.Nanoseconds())/1000)
			processor[client] = append(processor[client], float64(c.processor.Nanoseconds())/1000)
		}
	}
	return []result{
		{what: "start to exit, elapsed", key: "canned", unit: "µs", took: medians(wall), against: reportsAlone, limit: 1.5, elapsed: true},
		{what: "start to exit", key: "canned", unit: "µs", took: medians(processor), against: reportsAlone, limit: 1.5},
	}, nil
}

// sizes returns how long the programs of starts are. limit is of bytes.
func (p *programs) sizes() ([]result, error) {
	const limit = 4.5e6
	r := result{what: "size", unit: "MB", against: reportsAlone, exact: true}
	for client, name := range map[int]string{ours: "getinfo", libfido2: "libfido2", reportsAlone: "samebytes"} {
		n, err := size(p.path(name))
		if err != nil {
			return nil, err
		}
		r.took[client] = float64(n) / 1e6
	}
	r.limit = limit / 1e6 / r.took[reportsAlone]
	return []result{r}, nil
}

// turns returns the order of a round: forth and back, so that nobody is always
// behind the same.
func turns(clients []int, round int) []int {
	clients = slices.Clone(clients)
	if round%2 == 1 {
		slices.Reverse(clients)
	}
	return clients
}

func medians(samples [clients][]float64) (m [clients]float64) {
	for i, s := range samples {
		if slices.Sort(s); len(s) > 0 {
			m[i] = s[len(s)/2]
		}
	}
	return m
}
