package org.genrecall.opensearch.query;

import org.apache.lucene.index.IndexReader;
import org.apache.lucene.queries.function.FunctionScoreQuery;
import org.apache.lucene.search.BooleanClause;
import org.apache.lucene.search.BooleanQuery;
import org.apache.lucene.search.BoostQuery;
import org.apache.lucene.search.ConstantScoreQuery;
import org.apache.lucene.search.DisjunctionMaxQuery;
import org.apache.lucene.search.DoubleValuesSource;
import org.apache.lucene.search.MatchNoDocsQuery;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.TermQuery;
import org.genrecall.opensearch.generation.Generation;
import org.opensearch.index.mapper.MappedFieldType;
import org.opensearch.index.query.QueryShardContext;
import org.opensearch.index.query.QueryShardException;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;

/** The Lucene forms of the SIDs of one codebook, those of a probability below {@code minScore} left out. */
record SidQuery(String codebook, Generation generation, float minScore, MappedFieldType field, QueryShardContext context) {

    /**
     * {@code SHOULD(ConstantScore(sid) ^ p)}: any of the SIDs, a document scoring the probability of its own. In this form
     * Lucene skips SIDs that can no longer compete, and explain names the SID that matched.
     */
    Query byProbability() {
        BooleanQuery.Builder any = new BooleanQuery.Builder();
        for (int rank = 0; rank < generation.size(); rank++) {
            if (generation.probability(rank) >= minScore) {
                any.add(new BoostQuery(constant(term(rank)), generation.probability(rank)), BooleanClause.Occur.SHOULD);
            }
        }
        BooleanQuery query = any.build();
        return query.clauses().isEmpty() ? none() : query;
    }

    /**
     * {@code MUST(dis_max(ConstantScore(sid) ^ s)) SHOULD(query x weight)}, s = log p - log(items of the SID) + shift. Lucene
     * advances the optional clause along the required one, so the query is evaluated for items of the SIDs alone, and an item
     * that it does not match keeps s. Of an item's several SIDs the best counts, once. The weight is no boost: OpenSearch's
     * {@code function_score} ignores that with a {@code boost_mode} of replace, as it hands it to the query that it replaces.
     */
    Query ordered(double shift, Query query, float weight) throws IOException {
        List<Query> sids = new ArrayList<>();
        for (int rank = 0; rank < generation.size(); rank++) {
            if (generation.probability(rank) >= minScore) {
                Query term = term(rank);
                long items = generation.items(rank) > 0 ? generation.items(rank) : documents(term);
                sids.add(new BoostQuery(constant(term), (float) (logProbability(generation, rank, items) + shift)));
            }
        }
        if (sids.isEmpty()) {
            return none();
        }
        return new BooleanQuery.Builder().add(new DisjunctionMaxQuery(sids, 0), BooleanClause.Occur.MUST)
            .add(FunctionScoreQuery.boostByValue(query, DoubleValuesSource.constant(weight)), BooleanClause.Occur.SHOULD)
            .build();
    }

    /**
     * What is added to log p - log(items), since Lucene wants no negative score and {@code hybrid} takes one of 0 for no match:
     * with it the least likely item scores 1. It follows from the clause alone, so that it is the same on every shard and scores
     * can be compared: a SID of unknown size counts as one of as many documents as a shard may hold, which its document
     * frequency cannot exceed.
     */
    static double shift(Collection<Generation> generations, float minScore) {
        double least = Double.POSITIVE_INFINITY;
        for (Generation generation : generations) {
            for (int rank = 0; rank < generation.size(); rank++) {
                if (generation.probability(rank) >= minScore) {
                    long items = generation.items(rank) > 0 ? generation.items(rank) : Integer.MAX_VALUE;
                    least = Math.min(least, logProbability(generation, rank, items));
                }
            }
        }
        return 1 - least;
    }

    /** Of an item of the SID, when all of its items are equally likely. A score of 0 counts as the least float above it. */
    private static double logProbability(Generation generation, int rank, long items) {
        return Math.log(Math.max(generation.probability(rank), Float.MIN_VALUE)) - Math.log(items);
    }

    /** Of this shard, deleted ones included, as BM25 counts them. */
    private long documents(Query term) throws IOException {
        IndexReader reader = context.getIndexReader();
        if (reader == null) {
            return 1; // a query is built to be checked, and nothing searched
        }
        if (term instanceof ConstantScoreQuery constant) {
            term = constant.getQuery();
        }
        if (term instanceof TermQuery indexed) {
            return Math.max(1, reader.docFreq(indexed.getTerm()));
        }
        throw new QueryShardException(
            context,
            "[generative] order_within: field [" + field.name() + "] is not indexed, so its terms have no document frequencies: give the"
                + " SIDs their number of [items], or map the field with [index] true"
        );
    }

    private Query term(int rank) {
        return field.termQuery(generation.term(codebook, rank), context);
    }

    /** Some releases give a keyword's term a constant score themselves. */
    private static Query constant(Query term) {
        return term instanceof ConstantScoreQuery ? term : new ConstantScoreQuery(term);
    }

    private Query none() {
        return new MatchNoDocsQuery("no SID of codebook [" + codebook + "]");
    }
}
