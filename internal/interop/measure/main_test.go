//go:build linux

package main

import (
	"slices"
	"testing"
)

func TestJudge(t *testing.T) {
	r := result{what: "getInfo", took: [clients]float64{ours: 13, libfido2: 10}, against: libfido2}
	for _, test := range []struct {
		limit, margin float64
		over          bool
	}{
		{0, 1, false}, // none
		{1, 1, true},
		{1.3, 1, false},
		{1, 1.25, true},
		{1.1, 1.25, false},
		{1.2, 1, true},
	} {
		r.limit = test.limit
		if err := r.judge(test.margin); (err != nil) != test.over {
			t.Errorf("limit %v, margin %v: %v", test.limit, test.margin, err)
		}
	}
	r.elapsed = true
	if r.judge(1) == nil || r.judge(1.1) != nil {
		t.Error("elapsed time is judged with a margin, or not without one")
	}
	r.limit, r.exact, r.elapsed = 1.1, true, false
	if r.judge(1.25) == nil {
		t.Error("a margin for what needs none")
	}
	if got, want := r.String(), "getInfo, \t\t13.0\t10.0\t\t\t1.30\t1.10"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestMedians(t *testing.T) {
	got := medians([clients][]float64{ours: {9, 1, 5}, reportsAlone: {2}})
	if want := ([clients]float64{ours: 5, reportsAlone: 2}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestTurns(t *testing.T) {
	all := []int{ours, libfido2, pythonFIDO2}
	if got := turns(all, 0); !slices.Equal(got, all) {
		t.Errorf("%v", got)
	}
	if got := turns(all, 1); !slices.Equal(got, []int{pythonFIDO2, libfido2, ours}) {
		t.Errorf("%v", got)
	}
}
