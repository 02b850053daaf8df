package org.genrecall.opensearch.query;

import org.apache.lucene.search.BooleanClause;
import org.apache.lucene.search.BooleanQuery;
import org.apache.lucene.search.BoostQuery;
import org.apache.lucene.search.ConstantScoreQuery;
import org.apache.lucene.search.MatchNoDocsQuery;
import org.apache.lucene.search.Query;
import org.genrecall.opensearch.generation.Generation;
import org.opensearch.index.mapper.MappedFieldType;
import org.opensearch.index.query.QueryShardContext;

/** The Lucene form: any of the SIDs, a document scoring the probability of its own. */
final class SidQuery {

    private SidQuery() {}

    /**
     * {@code SHOULD(ConstantScore(sid) ^ p)} for each SID of probability {@code minScore} or more. In this form Lucene
     * skips SIDs that can no longer compete, and explain names the SID that matched.
     */
    static Query of(String codebook, Generation generation, float minScore, MappedFieldType field, QueryShardContext context) {
        BooleanQuery.Builder any = new BooleanQuery.Builder();
        for (int rank = 0; rank < generation.size(); rank++) {
            float probability = generation.probability(rank);
            if (probability >= minScore) {
                Query sid = constant(field.termQuery(generation.term(codebook, rank), context));
                any.add(new BoostQuery(sid, probability), BooleanClause.Occur.SHOULD);
            }
        }
        BooleanQuery query = any.build();
        return query.clauses().isEmpty() ? new MatchNoDocsQuery("no SID of codebook [" + codebook + "]") : query;
    }

    /** Some releases give a keyword's term a constant score themselves. */
    private static Query constant(Query term) {
        return term instanceof ConstantScoreQuery ? term : new ConstantScoreQuery(term);
    }
}
