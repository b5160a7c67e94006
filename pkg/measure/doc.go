// Package measure counts how often something took how long, or was how large.
//
// The life of a measurement:
//
//  1. A room makes a Histogram with the bounds that matter to an operator.
//  2. It observes a value once for each batch: two additions and no lock.
//  3. Whoever wants to know reads it, at any time; pkg/metrics turns the Reading
//     into what Prometheus scrapes.
//
// The package knows nothing of what is measured, keeps no single value, and
// cannot be reset: it only grows, as a counter does.
package measure
