package bench

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Scratch makes an empty place for measurements beside what a store URL names: a schema of the same database, a database of
// the same server, or a file in the folder. It returns the URL of the place and what removes it.
func Scratch(ctx context.Context, address, folder string) (scratch string, remove func(), err error) {
	name := "holdfast_bench_" + strings.ToLower(rand.Text()[:12])
	switch kind, _, _ := strings.Cut(address, ":"); kind {
	case "sqlite":
		return "sqlite:" + folder + "/" + name + ".db", func() {}, nil
	case "postgres", "postgresql":
		return scratchPostgres(ctx, address, name)
	case "mongodb", "mongodb+srv":
		scratch = scratchMongoDB(address, name)
		return scratch, func() { dropMongoDB(scratch, name) }, nil
	default:
		return "", nil, fmt.Errorf("the store %s: cannot be measured", kind)
	}
}

// removeTimeout is how long a place may take to be removed.
const removeTimeout = 30 * time.Second

func scratchPostgres(ctx context.Context, address, schema string) (scratch string, remove func(), err error) {
	if err := execPostgres(ctx, address, "CREATE SCHEMA "+schema); err != nil {
		return "", nil, fmt.Errorf("making a schema in the database: %w", err)
	}
	separator := "?"
	if strings.Contains(address, "?") {
		separator = "&"
	}
	return address + separator + "search_path=" + schema, func() {
		ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
		defer cancel()
		_ = execPostgres(ctx, address, "DROP SCHEMA IF EXISTS "+schema+" CASCADE")
	}, nil
}

func execPostgres(ctx context.Context, address, statement string) error {
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}

// scratchMongoDB names another database of the same server.
func scratchMongoDB(address, database string) string {
	scheme, rest, _ := strings.Cut(address, "://")
	hosts, path, _ := strings.Cut(rest, "/")
	_, query, found := strings.Cut(path, "?")
	scratch := scheme + "://" + hosts + "/" + database
	if found {
		scratch += "?" + query
	}
	return scratch
}

func dropMongoDB(address, database string) {
	client, err := mongo.Connect(options.Client().ApplyURI(address))
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	_ = client.Database(database).Drop(ctx)
	_ = client.Disconnect(ctx)
}
