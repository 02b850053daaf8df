package org.genrecall.opensearch.generation;

import org.opensearch.common.Nullable;
import org.opensearch.core.ParseField;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.common.io.stream.Writeable;
import org.opensearch.core.xcontent.ObjectParser;
import org.opensearch.core.xcontent.ToXContentObject;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.core.xcontent.XContentParser;

import java.io.IOException;
import java.util.List;
import java.util.stream.Stream;

/** Who asks. Every part may be absent; the lists are newest first. */
public record UserContext(@Nullable String gender, @Nullable String ageBand, List<String> recentSids, List<String> recentItems)
    implements
        Writeable,
        ToXContentObject {

    public static final UserContext ANONYMOUS = new UserContext(null, null, List.of(), List.of());

    private static final int MAX_RECENT = 100;
    private static final int MAX_ATTRIBUTE_LENGTH = 64;
    /** That of a document's id. */
    private static final int MAX_ID_LENGTH = 512;

    private static final ParseField GENDER = new ParseField("gender");
    private static final ParseField AGE_BAND = new ParseField("age_band");
    private static final ParseField RECENT_SIDS = new ParseField("recent_sids");
    private static final ParseField RECENT_ITEMS = new ParseField("recent_items");

    private static final ObjectParser<Draft, Void> PARSER = new ObjectParser<>("user", Draft::new);
    static {
        PARSER.declareString((draft, value) -> draft.gender = value, GENDER);
        PARSER.declareString((draft, value) -> draft.ageBand = value, AGE_BAND);
        PARSER.declareStringArray((draft, value) -> draft.recentSids = value, RECENT_SIDS);
        PARSER.declareStringArray((draft, value) -> draft.recentItems = value, RECENT_ITEMS);
    }

    private static final class Draft {
        private String gender;
        private String ageBand;
        private List<String> recentSids = List.of();
        private List<String> recentItems = List.of();
    }

    public UserContext(StreamInput in) throws IOException {
        this(in.readOptionalString(), in.readOptionalString(), in.readStringList(), in.readStringList());
    }

    /** The terms of {@code recent_sids} are checked by {@link #validate}, outside the parser, which would bury the message. */
    public static UserContext parse(XContentParser parser) throws IOException {
        Draft draft = PARSER.parse(parser, null);
        return new UserContext(draft.gender, draft.ageBand, List.copyOf(draft.recentSids), List.copyOf(draft.recentItems));
    }

    /** @throws IllegalArgumentException where one of {@code recent_sids} is no SID term, or a part is too large to be kept */
    public UserContext validate() {
        checkLength("gender", gender, MAX_ATTRIBUTE_LENGTH);
        checkLength("age_band", ageBand, MAX_ATTRIBUTE_LENGTH);
        checkSize("recent_sids", recentSids);
        checkSize("recent_items", recentItems);
        for (String item : recentItems) {
            checkLength("recent_items", item, MAX_ID_LENGTH);
        }
        for (String term : recentSids) {
            try {
                Sid.parse(term);
            } catch (IllegalArgumentException e) {
                throw new IllegalArgumentException("[generative] user.recent_sids: " + e.getMessage());
            }
        }
        return this;
    }

    /** About how much memory it takes. */
    long bytes() {
        return Stream.of(recentSids, recentItems).flatMap(List::stream).mapToLong(text -> 60 + 2L * text.length()).sum();
    }

    private static void checkSize(String option, List<String> values) {
        if (values.size() > MAX_RECENT) {
            throw new IllegalArgumentException(
                "[generative] user." + option + " has " + values.size() + " entries: give the newest " + MAX_RECENT + " at most"
            );
        }
    }

    private static void checkLength(String option, @Nullable String value, int most) {
        if (value != null && value.length() > most) {
            throw new IllegalArgumentException(
                "[generative] user." + option + " has a value of " + value.length() + " characters: shorten it to " + most + " or less"
            );
        }
    }

    @Override
    public void writeTo(StreamOutput out) throws IOException {
        out.writeOptionalString(gender);
        out.writeOptionalString(ageBand);
        out.writeStringCollection(recentSids);
        out.writeStringCollection(recentItems);
    }

    @Override
    public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
        builder.startObject();
        if (gender != null) {
            builder.field(GENDER.getPreferredName(), gender);
        }
        if (ageBand != null) {
            builder.field(AGE_BAND.getPreferredName(), ageBand);
        }
        if (recentSids.isEmpty() == false) {
            builder.field(RECENT_SIDS.getPreferredName(), recentSids);
        }
        if (recentItems.isEmpty() == false) {
            builder.field(RECENT_ITEMS.getPreferredName(), recentItems);
        }
        return builder.endObject();
    }
}
