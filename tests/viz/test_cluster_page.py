"""The page of clusters: what stands in it, and that it asks for nothing but the pictures beside it."""

import re

from svllreid.viz.cluster_page import ClusterCard, write_cluster_page


def test_clusters_stand_in_the_given_order_with_all_that_is_known(tmp_path):
    cards = [
        ClusterCard("c00001", "c00001.png", 60, 48, 2, 0.75, "c00000", 0.5),
        ClusterCard("c00000", "c00000.png", 70, 70, 0, 0.25, "", float("nan")),
    ]
    write_cluster_page(tmp_path / "index.html", "Clusters <of> mine", "../c.csv", cards, 7)
    page = (tmp_path / "index.html").read_text()
    assert "Clusters &lt;of&gt; mine" in page and "7 images in none" in page and "../c.csv" in page
    assert re.findall(r'<section id="(\w+)"', page) == ["c00001", "c00000"]
    assert "60 images of 2 cameras, 48 of them drawn" in page and "<span>70 images</span>" in page
    assert re.findall(r'href="(.*?)"', page) == ["#c00000"] and "at 0.50" in page
    assert re.findall(r'src="(.*?)"', page) == ["c00001.png", "c00000.png"]
    assert re.findall(r"(?:https?:)?//[a-z]", page) == []
    assert "default-src 'none'" in page and 'data-gap="1000000000.0"' in page
