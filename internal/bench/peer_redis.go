package bench

import (
	"context"
	"errors"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// redisPeer does less than the others and than Holdfast: there is no order, nothing that ends a hold at its deadline, no
// events, and a request that is repeated holds twice.
type redisPeer struct{ client *redis.Client }

// redisHold checks and takes the stock, writes the reservation, and enters it in the set of holds that is ordered by
// deadline. Redis runs one script at a time. It answers 0 if there are too few.
var redisHold = redis.NewScript(`
local available = tonumber(redis.call('GET', KEYS[1]))
local quantity = tonumber(ARGV[1])
if not available or available < quantity then
	return 0
end
redis.call('DECRBY', KEYS[1], quantity)
redis.call('HSET', KEYS[2], 'product', ARGV[2], 'quantity', quantity, 'status', 'ACTIVE', 'expiresAt', ARGV[3],
	'amount', 1999 * quantity, 'currency', 'EUR')
redis.call('ZADD', KEYS[3], ARGV[3], KEYS[2])
return 1
`)

func openRedisPeer(address string, connections int) (*redisPeer, error) {
	o, err := redis.ParseURL(address)
	if err != nil {
		return nil, errors.New("the Redis URL cannot be read")
	}
	o.PoolSize = connections
	return &redisPeer{redis.NewClient(o)}, nil
}

func (p *redisPeer) Close() error { return p.client.Close() }

func stockKey(product string) string { return "stock:" + product }

func (p *redisPeer) AddProduct(ctx context.Context, id string, units int64) error {
	return p.client.SetNX(ctx, stockKey(id), units, 0).Err()
}

func (p *redisPeer) Hold(ctx context.Context, h Hold) error {
	keys := []string{stockKey(h.Product), "reservation:" + strconv.FormatInt(h.Key, 10), "reservations:due"}
	held, err := redisHold.Run(ctx, p.client, keys, h.Quantity, h.Product, h.Expires.UnixMilli()).Int()
	if err == nil && held == 0 {
		err = errSoldOut
	}
	return err
}
