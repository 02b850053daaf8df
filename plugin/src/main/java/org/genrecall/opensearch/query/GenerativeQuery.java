package org.genrecall.opensearch.query;

import org.apache.lucene.search.BooleanClause;
import org.apache.lucene.search.IndexSearcher;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.QueryVisitor;
import org.genrecall.opensearch.generation.Generation;
import org.opensearch.common.Nullable;

import java.util.Objects;

/**
 * What the clause is on a shard: searched as {@code form}, to which it rewrites, and known by what it was made of to
 * {@link EvidencePhase}.
 */
final class GenerativeQuery extends Query {

    private final Query form;
    final SidQuery sids;
    @Nullable
    final String name;
    /** Orders the items of the SIDs, with its weight. */
    @Nullable
    final Query order;
    final float weight;

    GenerativeQuery(Query form, SidQuery sids, @Nullable String name, @Nullable Query order, float weight) {
        this.form = form;
        this.sids = sids;
        this.name = name;
        this.order = order;
        this.weight = weight;
    }

    Query form() {
        return form;
    }

    Generation generation() {
        return sids.generation();
    }

    @Override
    public Query rewrite(IndexSearcher searcher) {
        return form;
    }

    @Override
    public void visit(QueryVisitor visitor) {
        form.visit(visitor.getSubVisitor(BooleanClause.Occur.MUST, this));
    }

    @Override
    public String toString(String field) {
        return form.toString(field);
    }

    @Override
    public boolean equals(Object other) {
        return sameClassAs(other) && form.equals(((GenerativeQuery) other).form);
    }

    @Override
    public int hashCode() {
        return Objects.hash(classHash(), form);
    }
}
