package day

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/edgelog/edgelog/pkg/session"
)

// Hours is how busy the hours of a day are (UTC), beside each other; between
// their middles it changes evenly.
var Hours = [24]float64{
	0.55, 0.42, 0.35, 0.31, 0.32, 0.40, 0.60, 0.82, 0.95, 1.00, 1.03, 1.06,
	1.08, 1.06, 1.06, 1.10, 1.18, 1.30, 1.44, 1.56, 1.62, 1.50, 1.20, 0.85,
}

// Options of a Stream.
type Options struct {
	Subscribers int     // 0: 10,000
	PerMinute   float64 // sessions of a subscriber, mean of the day; 0: 1
	Seed        uint64
	Begin       time.Time // when the first session is heard of; zero: 2026-11-02T00:00:00Z
}

// Stream makes sessions without end. It is not safe for use by several
// goroutines.
type Stream struct {
	r      *rand.Rand
	now    int64   // when the agent heard of the last one, ns since 1970
	mean   float64 // sessions a second
	perNs  float64 // sessions a nanosecond at present
	made   int
	hours  [24]float64
	busy   *rand.Zipf
	hosts4 *rand.Zipf
	hosts6 *rand.Zipf
	doors  *rand.Zipf
	homes  []home
	choice [1000]uint8 // of uses, by their shares
}

// New returns a stream.
func New(o Options) *Stream {
	if o.Subscribers == 0 {
		o.Subscribers = 10_000
	}
	if o.PerMinute == 0 {
		o.PerMinute = 1
	}
	if o.Begin.IsZero() {
		o.Begin = time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	}
	r := rand.New(rand.NewPCG(o.Seed, 0x6461795f))
	s := &Stream{
		r: r, now: o.Begin.UnixNano(), mean: float64(o.Subscribers) * o.PerMinute / 60,
		busy:   rand.NewZipf(r, 1.1, 200, uint64(o.Subscribers-1)),
		hosts4: rand.NewZipf(r, 1.15, 8, servers4-1),
		hosts6: rand.NewZipf(r, 1.15, 8, servers6-1),
		doors:  rand.NewZipf(r, 1.3, 2, 1023),
		homes:  homes(o.Seed, o.Subscribers),
	}
	var sum float64
	for _, h := range Hours {
		sum += h
	}
	for i, h := range Hours {
		s.hours[i] = h * 24 / sum
	}
	i := 0
	for u := range uses {
		for range uses[u].share {
			s.choice[i] = uint8(u)
			i++
		}
	}
	return s
}

// BusyHour is how many times busier the busiest hour is than the mean.
func BusyHour() float64 {
	var sum, most float64
	for _, h := range Hours {
		sum, most = sum+h, max(most, h)
	}
	return most * 24 / sum
}

// Now returns when the agent heard of the last session, ns since 1970.
func (s *Stream) Now() int64 { return s.now }

// rate returns sessions a second at the present time.
func (s *Stream) rate() float64 {
	at := float64(s.now%int64(24*time.Hour))/float64(time.Hour) + 23.5
	h, part := math.Modf(at)
	i := int(h) % 24
	return s.mean * (s.hours[i]*(1-part) + s.hours[(i+1)%24]*part)
}

// Append appends the next n sessions to dst.
func (s *Stream) Append(dst []session.Session, n int) []session.Session {
	for range n {
		if s.made%1024 == 0 {
			s.perNs = s.rate() / 1e9
		}
		s.made++
		s.now += int64(s.r.ExpFloat64() / s.perNs)
		dst = append(dst, session.Session{})
		s.next(&dst[len(dst)-1])
	}
	return dst
}

func (s *Stream) lognormal(medianMs, sigma float64) int64 {
	ms := medianMs * math.Exp(s.r.NormFloat64()*sigma)
	return int64(min(ms, 12*3600e3) * 1e6)
}

// scatter spreads small numbers over 64 bits, always the same way.
func scatter(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

var (
	firstNames = [...]string{"anna", "bo", "carl", "dorte", "erik", "freja", "gitte", "hans", "ida", "jens", "karen", "lars", "mette", "niels", "oda", "peter", "rikke", "soren", "tina", "ulla", "viggo", "zoe"}
	lastNames  = [...]string{"jensen", "nielsen", "hansen", "pedersen", "andersen", "christensen", "larsen", "sorensen", "rasmussen", "petersen", "madsen", "kristensen", "olsen", "thomsen", "moller", "holm"}
)

func userName(h uint64) string {
	return fmt.Sprintf("%s.%s%d@isp.example", firstNames[h%uint64(len(firstNames))], lastNames[h>>8%uint64(len(lastNames))], h>>16%10000)
}
