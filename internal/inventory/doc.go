// Package inventory is the domain of Holdfast: products, stock, reservations and orders, the commands that change them,
// and [Decide], which says what a batch of commands does to the rows it was given.
//
// Everything here is pure. There is no I/O, no clock and no randomness: the time, the rows and the salt of new ids come
// in, and outcomes, changed rows and events go out. So a store may run a decision again whenever its transaction has to
// be retried.
//
// The units of one product at one location are in three buckets, and total = available + reserved + committed, always:
//
//	receive / adjust +n   ->  available                 total +n
//	adjust -n                 available  ->             total -n, refused if available would go below zero
//	reserve                   available  ->  reserved
//	cancel, expire            reserved   ->  available
//	confirm                   reserved   ->  committed
//	order cancelled           committed  ->  available
//	order fulfilled           committed  ->             total -n
package inventory
